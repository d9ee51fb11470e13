// PerforatedConv on the CPU, channels last: an implicit GEMM whose rows are pointers.
//
// The rows of the left matrix are pixels of X, one pointer for each tap of each output pixel, so
// nothing is gathered and nothing is copied; a tap outside X points to a row of zeros. Weights are
// packed once. The list of output pixels is cut into tiles of rows; on small maps the panels of
// output channels are shared out as well, so that there is work for every thread.
//
// One object serves any number of concurrent calls.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/host.hpp"
#include "perforated_conv/cpu/packed_weights.hpp"

namespace pagdeploy::cpu {

// What becomes of the output pixels that are not computed.
enum class Inactive : std::int32_t {
    kDefine = 0,  // as the op defines: base, or activation(base) when adding
    kBase = 1,    // base: somebody has proved that activation(base) == base
    kDead = 2,    // anything: somebody has proved that nobody reads them
};

struct ConvCall {
    Grid input;
    const float* x;              // (N, H, W, C)
    const std::int32_t* pixels;  // output pixels to compute, ascending, in range
    std::size_t count;           // how many; with all of them `pixels` may be null
    const float* base;           // (N, Ho, Wo, M), which may be y itself; or one value
    bool baseIsOneValue;
    int mode;  // kModeReplace or kModeAdd
    Bend bend;
    Inactive inactive;
    float* y;  // (N, Ho, Wo, M); in part or whole over x costs a copy of x
    // Rows of y are those of the list, (count, M), instead of pixels: then nothing is filled.
    bool compact;
    // The same of x, if the convolution is pointwise.
    bool xIsCompact = false;
    // The row of the list that a compact x or y begins with.
    std::size_t firstCompactRow = 0;
};

class InactiveFill;

// X, or a copy of it if Y lies over it: a finished pixel would overwrite what its neighbours, and
// its own later channels, read.
class XApart {
public:
    XApart(const ConvCall& call, std::size_t xSize, std::size_t ySize, Host& host);

    const float* data() const { return copy_ ? copy_->data() : x_; }

private:
    const float* x_;
    std::optional<HostArray<float>> copy_;
};

class Convolution {
public:
    // `weights` is (M, C / group, kernel height, kernel width), `bias` is (M,).
    Convolution(const KernelShape& shape, const float* weights, const float* bias,
                const InstructionSet& isa);

    const KernelShape& shape() const { return shape_; }
    const InstructionSet& isa() const { return isa_; }

    void run(const ConvCall& call, Host& host) const;

private:
    friend class ConvPair;

    // A part of the depth: whole taps, or some channels of one tap.
    struct Slice {
        int firstTap;
        int taps;
        int firstChannel;
        int channels;
    };
    struct Tile {
        std::size_t firstRow;  // of the list
        int rows;
        int firstPanel;
        int endPanel;
    };

    bool isPointwise() const {
        return shape_.taps() == 1 && shape_.strideY == 1 && shape_.strideX == 1 &&
               shape_.reach.padTop == 0 && shape_.reach.padLeft == 0 && shape_.padBottom == 0 &&
               shape_.padRight == 0;
    }
    std::vector<Slice> slices() const;
    // What is shared out besides rows: panels, or blocks of channels of a depthwise convolution.
    int panels() const;
    int mostTileRows() const;
    // Whether all rows of X share one set of an L1 cache.
    bool rowsAlias() const;
    std::size_t inputSize(const ConvCall& call) const {
        return static_cast<std::size_t>(call.xIsCompact ? call.count : call.input.pixels()) *
               shape_.inputChannels;
    }
    void compute(const ConvCall& call, const ConvGeometry& geometry, const InactiveFill& fill,
                 Host& host) const;
    void computeTile(const ConvCall& call, const ConvGeometry& geometry, const Tile& tile) const;
    // `fetches`: rows are asked for a group ahead.
    void multiplyTile(const Tile& tile, int groupRows, bool fetches, const RowSink& sink) const;
    void depthwiseTile(const Tile& tile, const RowSink& sink) const;
    void narrowTile(const Tile& tile, const RowSink& sink) const;
    void fillInput(const ConvCall& call, const ConvGeometry& geometry, const Tile& tile,
                   int groupRows, const float** to) const;

    KernelShape shape_;
    const InstructionSet& isa_;
    PackedWeights weights_;
    AlignedFloats zeros_;  // a row of X outside the map
    std::vector<Slice> slices_;
};

}  // namespace pagdeploy::cpu
