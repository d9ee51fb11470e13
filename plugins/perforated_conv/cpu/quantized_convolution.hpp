// PerforatedConv of quantized tensors, channels last: convolution.hpp's implicit GEMM in bytes.
//
// Rows are pointers into X, weights are packed once, and sums are exact in 32 bits. A tap outside X
// points to a row of X's zero point, whose products cancel. One object serves any number of
// concurrent calls.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/host.hpp"
#include "perforated_conv/cpu/packed_weights.hpp"
#include "perforated_conv/cpu/quantized_set.hpp"

namespace pagdeploy::cpu {

// What is fixed when a model is loaded, besides shapes and weights.
struct QuantizedForm {
    Units x;
    Units base;
    Units y;  // not used for floats
    bool givesFloats;
    int mode;  // kModeReplace, then base and y are in the same units; or kModeAdd
    bool relu;
};

struct QuantizedCall {
    Grid input;
    const std::uint8_t* x;       // (N, H, W, C)
    const std::int32_t* pixels;  // output pixels to compute, ascending, in range
    std::size_t count;           // how many; with all of them `pixels` may be null
    const std::uint8_t* base;    // (N, Ho, Wo, M), which may be y itself; or one value
    bool baseIsOneValue;
    bool inactiveAreDead;        // nobody reads what is not listed; else it is as the op defines
    std::uint8_t* bytes;         // (N, Ho, Wo, M); over x costs a copy of x. Null for floats
    float* floats;               // (N, Ho, Wo, M)
};

class QuantizedConvolution {
public:
    // `weights` is (M, C, kernel height, kernel width), `bias` (M,) in steps of the products, and
    // `scales` (M,) the steps of the weights. One group.
    QuantizedConvolution(const KernelShape& shape, const std::int8_t* weights,
                         const std::int32_t* bias, const float* scales, const QuantizedForm& form,
                         const QuantizedSet& isa);

    const KernelShape& shape() const { return shape_; }
    const QuantizedForm& form() const { return form_; }

    void run(const QuantizedCall& call, Host& host) const;

private:
    struct Tile {
        std::size_t firstRow;  // of the list
        int rows;
        int firstPanel;
        int endPanel;
    };

    void pack(const std::int8_t* weights, const std::int32_t* bias, const float* scales);
    void computeTile(const QuantizedCall& call, const ConvGeometry& geometry,
                     const Tile& tile) const;
    // What an inactive pixel shows of a base.
    float shownFloat(std::uint8_t base) const;
    std::uint8_t shownByte(std::uint8_t base) const;
    void fillInactive(const QuantizedCall& call, std::size_t first, std::size_t end) const;

    KernelShape shape_;
    QuantizedForm form_;
    const QuantizedSet& isa_;
    int panels_;
    std::size_t tapBytes_;    // of a panel
    std::size_t panelBytes_;
    std::unique_ptr<std::int8_t[], FreeMemory> weights_;  // [panel][tap][depth / 4][column][4]
    std::vector<std::int32_t> bias_;   // [panel][column], the zero point of X in it
    std::vector<float> scale_;         // [panel][column]
    std::vector<std::uint8_t> outside_;  // a row of X outside the map
    std::uint8_t shownBytes_[256];
    float shownFloats_[256];
    bool showsBase_;  // an inactive byte is that of the base
};

}  // namespace pagdeploy::cpu
