#include "perforated_conv/rules.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "common/check.hpp"
#include "common/host_device.hpp"

namespace pagdeploy {

namespace {

using Rules = PerforatedConvRules;
using Ints = std::vector<std::int32_t>;

void checkInts(const char* name, const Ints& values, std::size_t count, std::int32_t least) {
    bool right = values.size() == count;
    for (const std::int32_t value : values) {
        right = right && value >= least;
    }
    PAG_CHECK(right, "attribute '" + std::string(name) + "' must be " + std::to_string(count) +
                         " integers of at least " + std::to_string(least));
}

void checkRange(const char* name, std::int32_t value, std::int32_t last) {
    PAG_CHECK(value >= 0 && value <= last,
              "attribute '" + std::string(name) + "' is " + std::to_string(value) +
                  " and must be in 0.." + std::to_string(last));
}

bool agree(const TensorShape& given, const TensorShape& expected) {
    bool same = given.rank == expected.rank;
    for (int axis = 0; same && axis < expected.rank; ++axis) {
        same = !contradict(given.d[axis], expected.d[axis]);
    }
    return same;
}

bool allOnes(const TensorShape& shape, int firstAxis) {
    bool ones = true;
    for (int axis = firstAxis; axis < shape.rank; ++axis) {
        ones = ones && shape.d[axis] == 1;
    }
    return ones;
}

void checkWeights(const Rules::Attributes& attributes, const Tensor* tensors) {
    const TensorShape& x = tensors[Rules::kX].shape;
    const TensorShape& w = tensors[Rules::kW].shape;
    const TensorShape& b = tensors[Rules::kB].shape;
    PAG_CHECK(!contradict(w.d[2], attributes.kernel_shape[0]) &&
                  !contradict(w.d[3], attributes.kernel_shape[1]),
              "the weights are " + textOf(w) + " and kernel_shape is " +
                  std::to_string(attributes.kernel_shape[0]) + ", " +
                  std::to_string(attributes.kernel_shape[1]));
    const std::int64_t group = attributes.group;
    PAG_CHECK(w.d[1] < 0 || !contradict(x.d[1], w.d[1] * group),
              "X is " + textOf(x) + " and the weights are " + textOf(w) + ": with " +
                  std::to_string(group) + " groups the channels do not match");
    PAG_CHECK(w.d[0] != 0, "the weights are " + textOf(w) + ": there is no output channel");
    PAG_CHECK(w.d[0] < 0 || w.d[0] % group == 0,
              std::to_string(w.d[0]) + " output channels cannot be split into " +
                  std::to_string(group) + " groups");
    PAG_CHECK(b.rank == 1 && !contradict(b.d[0], w.d[0]),
              "the bias is " + textOf(b) + " and must have one value for each of the " +
                  textOf({1, {w.d[0]}}) + " output channels");
}

void checkSelection(const Tensor* tensors, const TensorShape& output) {
    const TensorShape& selection = tensors[Rules::kSelection].shape;
    const TensorShape perPixel{4, {output.d[0], 1, output.d[2], output.d[3]}};
    const TensorShape perImage{4, {output.d[0], 1, 1, 1}};
    PAG_CHECK(agree(selection, perPixel) || agree(selection, perImage),
              "the selection is " + textOf(selection) + " and the output is " + textOf(output) +
                  ": it must be " + textOf(perPixel) + ", or " + textOf(perImage) +
                  " for one decision per image");
}

void checkPixels(const TensorShape& map, const char* name) {
    bool known = true;
    double pixels = 1.0;
    for (const int axis : {0, 2, 3}) {
        known = known && map.d[axis] >= 0;
        pixels *= static_cast<double>(map.d[axis]);
    }
    PAG_CHECK(!known || pixels <= std::numeric_limits<std::int32_t>::max(),
              std::string(name) + " is " + textOf(map) + ", more than 2^31 - 1 pixels");
}

}  // namespace

void PerforatedConvRules::checkAttributes(const Attributes& attributes) {
    PAG_CHECK(!attributes.kernel_shape.empty(), "attribute 'kernel_shape' is missing");
    checkInts("kernel_shape", attributes.kernel_shape, 2, 1);
    checkInts("strides", attributes.strides, 2, 1);
    checkInts("pads", attributes.pads, 4, 0);
    checkInts("dilations", attributes.dilations, 2, 1);
    PAG_CHECK(attributes.group >= 1, "attribute 'group' must be at least 1");
    checkRange("branch", attributes.branch, kMaxBranches - 1);
    checkRange("mode", attributes.mode, 1);
    checkRange("activation", attributes.activation, 3);
    PAG_CHECK(std::isfinite(attributes.alpha), "attribute 'alpha' must be finite");
    for (int axis = 0; axis < 2; ++axis) {
        // The kernels compute positions in 32 bits.
        const double reach = 1.0 * attributes.dilations[axis] * attributes.kernel_shape[axis] +
                             attributes.pads[axis] + attributes.pads[axis + 2];
        PAG_CHECK(reach <= 1 << 30, "kernel, dilation and pads reach too far");
    }
}

OutputShape PerforatedConvRules::outputShape(const Attributes& attributes, const Tensor* inputs) {
    constexpr const char* kNames[kInputs] = {"X", "the selection", "W", "B", "base"};
    constexpr int kRanks[kInputs] = {4, 4, 4, 1, 4};
    for (int i = 0; i < kInputs; ++i) {
        PAG_CHECK(inputs[i].shape.rank == kRanks[i],
                  std::string(kNames[i]) + " must be of rank " + std::to_string(kRanks[i]) +
                      ", not " + std::to_string(inputs[i].shape.rank));
    }
    OutputShape output{4, {OutputSize::of(kX, 0), OutputSize::of(kW, 0)}};
    for (int axis = 0; axis < 2; ++axis) {
        const std::int64_t reach =
            std::int64_t{attributes.dilations[axis]} * (attributes.kernel_shape[axis] - 1) + 1;
        const std::int64_t padded = std::int64_t{attributes.pads[axis]} + attributes.pads[axis + 2];
        const std::int64_t stride = attributes.strides[axis];
        // floor((size + pads - reach) / stride) + 1 as one division
        output.d[2 + axis] = {kX, 2 + axis, padded - reach + stride, stride};
    }
    return output;
}

TensorType PerforatedConvRules::outputType(const TensorType* inputs) { return inputs[kX]; }

bool PerforatedConvRules::supports(int position, const Tensor* tensors) {
    const Tensor& tensor = tensors[position];
    const TensorType type = tensors[kX].type;
    const bool linear = tensor.layout == TensorLayout::kLinear;
    switch (position) {
        case kX:
            return isFloat(type) && tensor.layout == channelsLast(type);
        case kSelection:
            return linear && tensor.type == TensorType::kInt32;
        case kB:
            return linear && tensor.type == type;
        case kBase:
            return tensor.type == type &&
                   (baseIsOneValue(tensors) ? linear : tensor.layout == channelsLast(type));
        default:
            return tensor.type == type && tensor.layout == channelsLast(type);
    }
}

void PerforatedConvRules::checkTensors(const Attributes& attributes, const Tensor* tensors) {
    const TensorShape output = evaluate(outputShape(attributes, tensors), tensors);
    const TensorShape& x = tensors[kX].shape;
    checkWeights(attributes, tensors);
    for (const int axis : {2, 3}) {
        PAG_CHECK(output.d[axis] == kUnknownSize || output.d[axis] > 0,
                  "the kernel does not fit into X of " + textOf(x));
    }
    checkSelection(tensors, output);
    const TensorShape& base = tensors[kBase].shape;
    PAG_CHECK(agree(base, output) || agree(base, {4, {1, 1, 1, 1}}),
              "the base is " + textOf(base) + " and must be " + textOf(output) +
                  " like the output, or 1x1x1x1 for one value");
    PAG_CHECK(agree(tensors[kY].shape, output), "the output is " + textOf(tensors[kY].shape) +
                                                    " and must be " + textOf(output));
    checkPixels(x, "X");
    checkPixels(output, "the output");
}

bool PerforatedConvRules::baseIsOneValue(const Tensor* tensors) {
    return allOnes(tensors[kBase].shape, 0);
}

bool PerforatedConvRules::selectionIsPerImage(const Tensor* tensors) {
    return allOnes(tensors[kSelection].shape, 1);
}

}  // namespace pagdeploy
