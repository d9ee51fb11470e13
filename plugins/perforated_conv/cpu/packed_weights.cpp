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

PackedWeights::PackedWeights(const KernelShape& shape, const float* weights, const float* bias,
                             const InstructionSet& isa)
    : depthwise_(shape.groups > 1 && shape.groups == shape.inputChannels &&
                 shape.groups == shape.outputChannels),
      depth_(shape.inputChannels / shape.groups),
      columns_(isa.panel),
      panelsPerGroup_(ceilDivide(shape.outputChannels / shape.groups, isa.panel)),
      panels_(shape.groups * panelsPerGroup_),
      panelSize_(static_cast<std::size_t>(shape.taps()) * depth_ * columns_) {
    if (depthwise_) {
        packDepthwise(shape, weights, bias);
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

}  // namespace pagdeploy::cpu
