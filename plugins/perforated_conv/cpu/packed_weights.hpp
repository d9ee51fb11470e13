// Weights in the order in which the kernels read them.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>

#include "perforated_conv/cpu/instruction_set.hpp"
#include "perforated_conv/cpu/shape.hpp"

namespace pagdeploy::cpu {

struct FreeMemory {
    void operator()(void* memory) const { std::free(memory); }
};
using AlignedFloats = std::unique_ptr<float[], FreeMemory>;

// Uninitialised, on a 64-byte boundary; throws std::bad_alloc.
AlignedFloats alignedFloats(std::size_t count);

// Memory that is kept for the next use, and replaced when it is too small.
class GrowingFloats {
public:
    float* sized(std::size_t count) {
        if (count > size_) {
            memory_ = alignedFloats(count);
            size_ = count;
        }
        return memory_.get();
    }

private:
    AlignedFloats memory_;
    std::size_t size_ = 0;
};

// The weights of one convolution, (M, C / group, kernel height, kernel width), cut into panels of
// output channels: [group][panel][tap][input channel of the group][column]. The last panel of a
// group is padded with zeros. Depthwise weights are [tap][channel] instead; those of a few output
// channels, a gate's, are [output channel][tap][input channel].
class PackedWeights {
public:
    PackedWeights(const KernelShape& shape, const float* weights, const float* bias,
                  const InstructionSet& isa);

    bool isDepthwise() const { return depthwise_; }
    bool isNarrow() const { return narrow_; }
    int panels() const { return panels_; }          // of all groups
    int panelsPerGroup() const { return panelsPerGroup_; }
    int depth() const { return depth_; }            // input channels of a group

    std::size_t bytes() const { return panelSize_ * panels_ * sizeof(float); }

    // [tap][depth][column] of a panel.
    const float* panel(int index) const {
        return weights_.get() + static_cast<std::size_t>(index) * panelSize_;
    }
    const float* panelBias(int index) const {
        return bias_.get() + static_cast<std::size_t>(index) * columns_;
    }

private:
    void packPanels(const KernelShape& shape, const float* weights, const float* bias);
    void packDepthwise(const KernelShape& shape, const float* weights, const float* bias);
    void packNarrow(const KernelShape& shape, const float* weights, const float* bias);

    bool depthwise_;
    bool narrow_;
    int depth_;
    int columns_;  // of a panel
    int panelsPerGroup_;
    int panels_;
    std::size_t panelSize_;
    AlignedFloats weights_;
    AlignedFloats bias_;
};

}  // namespace pagdeploy::cpu
