// A small PerforatedConv in memory as TensorRT would lay it out, and what it must compute.
#pragma once

#include <NvInferRuntime.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "common/element.hpp"
#include "common/trt_compat.hpp"

namespace pagdeploy::testing {

// Memory fit for 16-byte access, filled with a pattern that reads as NaN in every float type.
class Buffer {
public:
    explicit Buffer(std::size_t bytes) : bytes_(std::max<std::size_t>(bytes, 1)) {
        memory_.reset(std::aligned_alloc(256, (bytes_ + 255) / 256 * 256));
        poison();
    }
    void poison() { std::memset(memory_.get(), 0xFF, bytes_); }
    void* data() const { return memory_.get(); }
    template <typename Element>
    Element* as() const {
        return static_cast<Element*>(memory_.get());
    }

private:
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    std::size_t bytes_;
    std::unique_ptr<void, Free> memory_;
};

using Sizes = std::array<int, 4>;

inline nvinfer1::Dims dimsOf(const std::vector<int>& sizes) {
    nvinfer1::Dims dims{};
    for (const int size : sizes) {
        dims.d[dims.nbDims++] = size;
    }
    return dims;
}

// Small integers: sums of their products are exact in every type, so results are equal or wrong.
inline int smallInteger(int seed) { return (seed * 2654435761u >> 7) % 7 - 3; }

// 3x3 over `images` maps of 9x11, every attribute different in y and x; replace, relu, branch 2.
template <typename Element>
struct ConvExample {
    static constexpr int kHeight = 9, kWidth = 11, kOutHeight = 5, kOutWidth = 9;
    int images;
    int channels;
    int outputs;
    int inputPitch;
    int outputPitch;

    std::int32_t kernelShape[2] = {3, 3};
    std::int32_t strides[2] = {2, 1};
    std::int32_t pads[4] = {1, 2, 3, 2};
    std::int32_t dilations[2] = {2, 3};
    std::int32_t branch = 2;
    std::int32_t activation = 1;
    float alpha = 0.5f;
    std::vector<nvinfer1::PluginField> fields{
        {"alpha", &alpha, nvinfer1::PluginFieldType::kFLOAT32, 1},
        {"kernel_shape", kernelShape, nvinfer1::PluginFieldType::kINT32, 2},
        {"strides", strides, nvinfer1::PluginFieldType::kINT32, 2},
        {"pads", pads, nvinfer1::PluginFieldType::kINT32, 4},
        {"dilations", dilations, nvinfer1::PluginFieldType::kINT32, 2},
        {"branch", &branch, nvinfer1::PluginFieldType::kINT32, 1},
        {"activation", &activation, nvinfer1::PluginFieldType::kINT32, 1},
    };

    Buffer x, selection, weights, bias, base, y;
    std::vector<std::vector<int>> shapes;  // of X, selection, W, B, base, Y

    ConvExample(int images, int channels, int outputs)
        : images(images),
          channels(channels),
          outputs(outputs),
          inputPitch(pitch(channels)),
          outputPitch(pitch(outputs)),
          x(sizeof(Element) * images * kHeight * kWidth * inputPitch),
          selection(4 * images * kOutHeight * kOutWidth),
          weights(sizeof(Element) * outputs * 9 * inputPitch),
          bias(sizeof(Element) * outputs),
          base(sizeof(Element) * images * kOutHeight * kOutWidth * outputPitch),
          y(sizeof(Element) * images * kOutHeight * kOutWidth * outputPitch),
          shapes{{images, channels, kHeight, kWidth}, {images, 1, kOutHeight, kOutWidth},
                 {outputs, channels, 3, 3},           {outputs},
                 {images, outputs, kOutHeight, kOutWidth},
                 {images, outputs, kOutHeight, kOutWidth}} {
        fill(x, images * kHeight * kWidth, channels, inputPitch, 1);
        fill(weights, outputs * 9, channels, inputPitch, 2);
        fill(bias, 1, outputs, outputs, 3);
        fill(base, images * kOutHeight * kOutWidth, outputs, outputPitch, 4);
        for (int i = 0; i < images * kOutHeight * kOutWidth; ++i) {
            selection.as<std::int32_t>()[i] = (i * 7 + i / 5) % 3;
        }
    }

    nvinfer1::PluginFieldCollection collection() const {
        return {static_cast<std::int32_t>(fields.size()), fields.data()};
    }

    nvinfer1::PluginTensorDesc desc(int position) const {
        using nvinfer1::TensorFormat;
        const bool linear = position == 1 || position == 3;
        const TensorFormat channelsLast = sizeof(Element) == 4 ? TensorFormat::kHWC
                                                               : TensorFormat::kHWC8;
        const auto type = sizeof(Element) == 4 ? nvinfer1::DataType::kFLOAT
                                               : nvinfer1::DataType::kHALF;
        return {dimsOf(shapes[position]), position == 1 ? nvinfer1::DataType::kINT32 : type,
                linear ? TensorFormat::kLINEAR : channelsLast, -1.0f};
    }

    std::array<const void*, 5> inputs() const {
        return {x.data(), selection.data(), weights.data(), bias.data(), base.data()};
    }

    float expected(int pixel, int output) const {
        if (selection.as<std::int32_t>()[pixel] != branch) {
            return toFloat(base.as<Element>()[pixel * outputPitch + output]);
        }
        const int column = pixel % kOutWidth, row = pixel / kOutWidth % kOutHeight;
        const int image = pixel / (kOutWidth * kOutHeight);
        float sum = toFloat(bias.as<Element>()[output]);
        for (int tap = 0; tap < 9; ++tap) {
            const int top = row * 2 - 1 + tap / 3 * 2, left = column - 2 + tap % 3 * 3;
            if (top < 0 || top >= kHeight || left < 0 || left >= kWidth) {
                continue;
            }
            for (int c = 0; c < channels; ++c) {
                const int from = ((image * kHeight + top) * kWidth + left) * inputPitch + c;
                sum += toFloat(x.as<Element>()[from]) *
                       toFloat(weights.as<Element>()[(output * 9 + tap) * inputPitch + c]);
            }
        }
        return std::max(sum, 0.0f);
    }

    // How many values of the output are not exactly what they must be.
    int wrongValues() const {
        int wrong = 0;
        for (int pixel = 0; pixel < images * kOutHeight * kOutWidth; ++pixel) {
            for (int output = 0; output < outputPitch; ++output) {
                const Element got = y.as<Element>()[pixel * outputPitch + output];
                const float wanted = output < outputs ? expected(pixel, output) : 0.0f;
                wrong += toFloat(got) != wanted;
            }
        }
        return wrong;
    }

private:
    static int pitch(int channels) {
        return sizeof(Element) == 4 ? channels : (channels + 7) / 8 * 8;
    }

    // The padding stays poisoned: nobody may read it.
    static void fill(const Buffer& buffer, int rows, int columns, int pitch, int seed) {
        for (int row = 0; row < rows; ++row) {
            for (int column = 0; column < columns; ++column) {
                const int number = smallInteger((row * 131 + column) * 5 + seed);
                buffer.as<Element>()[row * pitch + column] =
                    fromFloat<Element>(static_cast<float>(number));
            }
        }
    }
};

}  // namespace pagdeploy::testing
