// What all convolutions of this library check, and say of their shapes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/pixel_order.hpp"
#include "onnxruntime/api.hpp"
#include "perforated_conv/rules.hpp"

namespace pagdeploy::ort {

// The axes of a channels-last map in the order of the rules.
TensorShape channelsFirst(const TensorShape& s);

Grid gridOf(const TensorShape& channelsFirstMap);

// Fills in the output, holds everything to the rules, and returns the output's shape.
TensorShape checkedOutput(const PerforatedConvAttributes& attributes, Tensor* tensors);

// `axes` are those of N, C, H, W in X; the output has its own in the same places, and its channels
// from the weights `lastWeightInput`.
void inferConv(const ShapeContext& context, std::size_t weightInput, std::size_t lastWeightInput,
               std::size_t baseInput, const int (&axes)[4], ONNXTensorElementDataType type);

// The list of pixels of a convolution whose output is `y`, channels first.
struct Listed {
    Listed(const Value& pixels, const TensorShape& y);

    const std::int32_t* list;
    std::size_t count;
};

}  // namespace pagdeploy::ort
