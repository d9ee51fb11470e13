// The innermost loop of the 8-bit kernels, compiled once per instruction set, chosen at run time.
//
// Rows of unsigned bytes times columns of signed ones, summed exactly in 32 bits: no step of any
// set saturates, so all sets agree bit for bit. quantized_loops.hpp does what they share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pagdeploy::cpu {

// Depths are multiplied in fours, the bytes of one 32-bit lane.
constexpr int kQuad = 4;

// What the bytes of a tensor mean: (byte - zero) * step.
struct Units {
    float step;
    std::int32_t zero;

    bool operator==(const Units& other) const { return step == other.step && zero == other.zero; }
};

// Where finished rows go, with c = sum * scale of the column:
//
//     without a base    round(c) + zero, where the scale is over the step of the output already
//     with one          round((c + (base - base.zero) * base.step) / step) + zero
//
// after clipping to low .. high, in steps of the output, and rounding half to even: what
// onnxruntime's QLinearConv and its QuantizeLinear do. Floats are neither divided nor rounded.
struct QuantizedSink {
    std::uint8_t* const* bytes;        // [rows], or null for floats
    float* const* floats;              // [rows], or null for bytes
    const std::uint8_t* const* base;   // [rows], or null for none
    Units baseUnits;
    Units units;                       // of bytes
    float low;
    float high;
};

// Some rows times one panel of weights.
struct QuantizedProduct {
    int rows;                           // 1 .. QuantizedSet::rows
    int columns;                        // that exist; the panel is padded to its whole width
    int taps;
    int depth;                          // bytes of a row to read at each tap
    const std::uint8_t* const* input;   // [taps][rows]: where each row's channels begin
    const std::int8_t* weights;         // [taps][depth / 4, rounded up][panel][4]
    const std::int32_t* bias;           // [panel]
    const float* scale;                 // [panel]
    const QuantizedSink* sink;
    std::ptrdiff_t firstColumn;         // of the panel, in the sink's rows
};

struct QuantizedSet {
    const char* name;
    int rows;   // of a tile, at most
    int panel;  // columns of a tile: two vectors
    void (*multiply)(const QuantizedProduct&);
};

// Those that this processor has, the fastest first; the portable one is always the last.
const std::vector<const QuantizedSet*>& quantizedSets();

extern const QuantizedSet kQuantizedPortable;
#if defined(__x86_64__)
extern const QuantizedSet kQuantizedAvx2;
extern const QuantizedSet kQuantizedVnni;
#endif

}  // namespace pagdeploy::cpu
