#include "onnxruntime/conv_checks.hpp"

#include <algorithm>

#include "common/output_shape.hpp"
#include "onnxruntime/pixel_lists.hpp"

namespace pagdeploy::ort {

namespace {

using Rules = PerforatedConvRules;

bool allOnes(const Dimensions& shape) {
    return std::all_of(shape.begin(), shape.end(),
                       [](const Dimension& d) { return d.name.empty() && d.size == 1; });
}

// What is known of the output's height or width.
Dimension outputDimension(const Dimension& size, const PerforatedConvAttributes& a, int axis) {
    const std::int64_t reach = std::int64_t{a.dilations[axis]} * (a.kernel_shape[axis] - 1) + 1;
    const std::int64_t padded = std::int64_t{a.pads[axis]} + a.pads[axis + 2];
    if (size.size >= 0 && size.name.empty()) {
        return {floorDivide(size.size + padded - reach, a.strides[axis]) + 1, ""};
    }
    // Only a size that stays the same keeps its name.
    return a.strides[axis] == 1 && padded + 1 == reach ? size : Dimension{};
}

}  // namespace

TensorShape channelsFirst(const TensorShape& s) {
    return s.rank == 4 ? TensorShape{4, {s.d[0], s.d[3], s.d[1], s.d[2]}} : s;
}

Grid gridOf(const TensorShape& channelsFirstMap) {
    const auto* d = channelsFirstMap.d;
    return {static_cast<int>(d[0]), static_cast<int>(d[2]), static_cast<int>(d[3])};
}

TensorShape checkedOutput(const PerforatedConvAttributes& attributes, Tensor* tensors) {
    const TensorShape output = evaluate(Rules::outputShape(attributes, tensors), tensors);
    tensors[Rules::kY].shape = output;
    Rules::checkTensors(attributes, tensors);
    return output;
}

void inferConv(const ShapeContext& context, std::size_t weightInput, std::size_t lastWeightInput,
               std::size_t baseInput, const int (&axes)[4], ONNXTensorElementDataType type) {
    const Dimensions base = context.input(baseInput);
    if (base.size() == 4 && !allOnes(base)) {
        return context.setOutput(base, type);  // it has the output's shape, names included
    }
    const Dimensions x = context.input(0);
    const Dimensions weights = context.input(weightInput);
    const Dimensions lastWeights = context.input(lastWeightInput);
    PerforatedConvAttributes attributes;
    visitPerforatedConv(attributes, [&](const char* name, auto& v) { context.read(name, v); });
    if (x.size() != 4 || weights.size() != 4 || lastWeights.size() != 4) {
        return;
    }
    Rules::checkAttributes(attributes);
    Dimensions output(4);
    output[axes[0]] = x[axes[0]];
    output[axes[1]] = lastWeights[0];
    output[axes[2]] = outputDimension(x[axes[2]], attributes, 0);
    output[axes[3]] = outputDimension(x[axes[3]], attributes, 1);
    context.setOutput(output, type);
}

Listed::Listed(const Value& pixels, const TensorShape& y)
    : list(pixels.as<std::int32_t>()),
      count(static_cast<std::size_t>(y.d[0] * y.d[2] * y.d[3])) {
    // A list that is left out has no data; an empty one may have none, but has a rank.
    if (pixels.data != nullptr || pixels.shape.rank > 0) {
        checkPixels(pixels, y.d[0] * y.d[2] * y.d[3]);
        count = pixels.elements();
    }
}

}  // namespace pagdeploy::ort
