#include "perforated_conv/cpu/packed_weights.hpp"

#include <algorithm>
#include <new>

namespace pagdeploy::cpu {

AlignedFloats alignedFloats(std::size_t count) {
    const std::size_t bytes = roundUp<std::size_t>(std::max<std::size_t>(count, 1) * 4, 64);
    auto* memory = static_cast<float*>(std::aligned_alloc(64, bytes));
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return AlignedFloats(memory);
}

namespace {

// A panel would be padding for the most part, and a vector along the depth is full.
constexpr int kNarrowOutputs = 4;
constexpr int kNarrowDepth = 64;

}  // namespace

PackedWeights::PackedWeights(const KernelShape& shape, const float* weights, const float* bias,
                             const InstructionSet& isa)
    : depthwise_(shape.groups > 1 && shape.groups == shape.inputChannels &&
                 shape.groups == shape.outputChannels),
      narrow_(shape.groups == 1 && shape.outputChannels <= kNarrowOutputs &&
              shape.inputChannels >= kNarrowDepth),
      depth_(shape.inputChannels / shape.groups),
      columns_(narrow_ ? shape.outputChannels : isa.panel),
      panelsPerGroup_(ceilDivide(shape.outputChannels / shape.groups, columns_)),
      panels_(shape.groups * panelsPerGroup_),
      panelSize_(static_cast<std::size_t>(shape.taps()) * depth_ * columns_) {
    if (depthwise_) {
        packDepthwise(shape, weights, bias);
    } else if (narrow_) {
        packNarrow(shape, weights, bias);
    } else {
        packPanels(shape, weights, bias);
    }
}

void PackedWeights::packPanels(const KernelShape& shape, const float* weights, const float* bias) {
    const int taps = shape.taps();
    const int perGroup = shape.outputChannels / shape.groups;
    const std::size_t perOutput = static_cast<std::size_t>(depth_) * taps;
    weights_ = alignedFloats(panelSize_ * panels_);
    bias_ = alignedFloats(static_cast<std::size_t>(columns_) * panels_);
    float* to = weights_.get();
    for (int panel = 0; panel < panels_; ++panel) {
        const int group = panel / panelsPerGroup_;
        const int firstColumn = (panel % panelsPerGroup_) * columns_;
        const int columns = std::min(columns_, perGroup - firstColumn);
        const std::size_t firstOutput = static_cast<std::size_t>(group) * perGroup + firstColumn;
        for (int tap = 0; tap < taps; ++tap) {
            for (int k = 0; k < depth_; ++k) {
                const float* from = weights + firstOutput * perOutput +
                                    static_cast<std::size_t>(k) * taps + tap;
                for (int column = 0; column < columns_; ++column) {
                    *to++ = column < columns ? from[column * perOutput] : 0.0f;
                }
            }
        }
        float* panelBias = bias_.get() + static_cast<std::size_t>(panel) * columns_;
        std::fill(panelBias, panelBias + columns_, 0.0f);
        std::copy_n(bias + firstOutput, columns, panelBias);
    }
}

void PackedWeights::packDepthwise(const KernelShape& shape, const float* weights,
                                  const float* bias) {
    const int taps = shape.taps();
    const int channels = shape.outputChannels;
    weights_ = alignedFloats(static_cast<std::size_t>(taps) * channels);
    bias_ = alignedFloats(static_cast<std::size_t>(channels));
    std::copy_n(bias, channels, bias_.get());
    for (int tap = 0; tap < taps; ++tap) {
        for (int c = 0; c < channels; ++c) {
            weights_[static_cast<std::size_t>(tap) * channels + c] =
                weights[static_cast<std::size_t>(c) * taps + tap];
        }
    }
}

void PackedWeights::packNarrow(const KernelShape& shape, const float* weights, const float* bias) {
    const int taps = shape.taps();
    weights_ = alignedFloats(panelSize_);
    bias_ = alignedFloats(static_cast<std::size_t>(columns_));
    std::copy_n(bias, columns_, bias_.get());
    float* to = weights_.get();
    for (int column = 0; column < columns_; ++column) {
        const float* from = weights + static_cast<std::size_t>(column) * depth_ * taps;
        for (int tap = 0; tap < taps; ++tap) {
            for (int k = 0; k < depth_; ++k) {
                *to++ = from[static_cast<std::size_t>(k) * taps + tap];
            }
        }
    }
}

}  // namespace pagdeploy::cpu
