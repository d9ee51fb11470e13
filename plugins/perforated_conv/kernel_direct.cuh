// The kernel that is right for every problem: one output value per thread, no alignment asked
// for. It serves depthwise convolutions, channels that are no multiple of eight, kernels of more
// than 32 taps, and types that an architecture's tensor cores lack.
#pragma once

#include "common/ptx.hpp"
#include "perforated_conv/params.hpp"

namespace pagdeploy {

constexpr int kDirectThreads = 256;

template <typename Element>
PAG_DEVICE float directSum(const ConvParams& params, int branch, int pixel, int channel) {
    const ConvGeometry& geometry = params.geometry;
    const PixelPosition at = positionOf(geometry.output, pixel);
    const int inputs = geometry.inputsPerGroup();
    const int firstInput = channel / geometry.outputsPerGroup() * inputs;
    const Element* const weights = static_cast<const Element*>(params.weights[branch]) +
                                   channel * params.weightOutputStride;
    float sum = 0.0f;
    for (int tap = 0; tap < geometry.taps(); ++tap) {
        const int source = geometry.tapSource(params.branch[branch], at, tap);
        if (source < 0) {
            continue;
        }
        const Element* const values = static_cast<const Element*>(params.input) +
                                      std::size_t(source) * params.inputPitch + firstInput;
        const Element* const tapWeights = weights + tap * params.weightTapStride;
        for (int c = 0; c < inputs; ++c) {
            sum += toFloat(values[c]) * toFloat(tapWeights[c * params.weightChannelStride]);
        }
    }
    return sum;
}

template <typename Element>
PAG_DEVICE Element baseAt(const ConvParams& params, int pixel, int channel) {
    const auto* const base = static_cast<const Element*>(params.base);
    return params.baseIsOneValue != 0 ? *base
                                      : base[std::size_t(pixel) * params.basePitch + channel];
}

template <typename Element>
__global__ void __launch_bounds__(kDirectThreads) directConv(const __grid_constant__
                                                             ConvParams params) {
    const int channels = params.geometry.outputChannels;
    const long long step = (long long)gridDim.x * blockDim.x;
    const long long first = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    auto* const output = static_cast<Element*>(params.output);
    const int lists = params.branches + (params.fillInactive != 0 ? 1 : 0);
    for (int list = 0; list < lists; ++list) {
        const int rows = params.rowsOf(list);
        for (long long i = first; i < (long long)rows * channels; i += step) {
            const int row = int(i / channels);
            const int channel = int(i - (long long)row * channels);
            const int pixel = params.pixelOfRow(list, rows, row);
            Element result;
            if (list == params.branches) {
                result = activatedBase(params, baseAt<Element>(params, pixel, channel));
            } else {
                float value = directSum<Element>(params, list, pixel, channel);
                value += toFloat(static_cast<const Element*>(params.bias[list])[channel]);
                if (params.mode == kModeAdd) {
                    value += toFloat(baseAt<Element>(params, pixel, channel));
                }
                result = fromFloat<Element>(activate(value, params.activation, params.alpha));
            }
            output[std::size_t(pixel) * params.outputPitch + channel] = result;
        }
    }
}

}  // namespace pagdeploy
