// The innermost loops of the CPU kernels, compiled once per instruction set and chosen at run time.
//
// A new instruction set is one more source file beside instruction_set_avx2.cpp: it says how wide a
// vector is and how many rows a tile has, and kernel_loops.hpp does the rest. On Arm the portable
// one compiles to NEON.
#pragma once

#include <cstddef>
#include <vector>

namespace pagdeploy::cpu {

// An activation in three numbers: negative values are scaled, then all are clipped; NaN stays NaN.
struct Bend {
    float slope;
    float low;
    float high;
};

// Where finished rows go: output[r][c] = bend(sum[r][c] + base[r][c]).
struct RowSink {
    float* const* output;      // [rows]
    const float* const* base;  // [rows], or null for none
    Bend bend;
};

// Some rows times one panel of weights, over a part of the depth.
//
// Sums begin with the bias or with partial sums, and end as partial sums or in the sink. The depth
// is cut so that the part of the panel that all rows of a tile share stays in the L2 cache.
struct TileProduct {
    int rows;                   // 1 .. InstructionSet::rows
    int columns;                // that exist; the panel is padded with zeros to its whole width
    int taps;                   // kernel positions to add up
    int depth;                  // channels to add up at each of them
    const float* const* input;  // [taps][rows]: where each row's channels begin
    std::ptrdiff_t inputOffset;  // the first channel to read
    const float* const* next;   // as input, of rows that are read next; null for none
    const float* weights;       // [taps][depth][panel], tapStride floats from tap to tap
    std::ptrdiff_t tapStride;
    const float* bias;          // [panel]; null to continue from `partial`
    float* partial;             // [rows][panel]; read without a bias, written without a sink
    const RowSink* sink;        // null to stop at partial sums
    std::ptrdiff_t firstColumn;  // of the panel, in the sink's rows
};

// Rows of a depthwise product that are computed together.
constexpr int kDepthwiseRows = 4;

// Each channel with weights of its own.
struct DepthwiseRows {
    int rows;
    int taps;
    int channels;
    const float* const* input;  // [taps][row] of each kDepthwiseRows rows, the last group smaller
    const float* weights;       // [taps][channels]
    const float* bias;          // [channels]
    RowSink sink;
    int firstChannel;
    int endChannel;
};

// Rows of a product of few columns that are computed together.
constexpr int kNarrowRows = 4;

// Some rows times so few columns that a vector goes along the depth instead of over the columns.
struct NarrowRows {
    int rows;
    int taps;
    int depth;
    int columns;
    const float* const* input;  // [taps][row] of each kNarrowRows rows, the last group smaller
    const float* weights;       // [columns][taps][depth]
    const float* bias;          // [columns]
    RowSink sink;
};

// A matrix to turn: to[c][r] = bend(from[r][c]). The two do not overlap.
struct Transpose {
    const float* from;
    std::ptrdiff_t fromStride;  // floats from row to row
    int rows;
    int columns;
    float* to;
    std::ptrdiff_t toStride;
    bool bends;  // false to leave the values as they are
    Bend bend;
};

struct InstructionSet {
    const char* name;
    int rows;   // of a tile, at most
    int panel;  // columns of a tile: two vectors
    void (*multiply)(const TileProduct&);
    void (*depthwise)(const DepthwiseRows&);
    void (*narrow)(const NarrowRows&);
    void (*transpose)(const Transpose&);
};

// Those that this processor has, the fastest first; the portable one is always the last.
const std::vector<const InstructionSet*>& instructionSets();

extern const InstructionSet kPortable;
#if defined(__x86_64__)
extern const InstructionSet kAvx2;
extern const InstructionSet kAvx512;
#endif

}  // namespace pagdeploy::cpu
