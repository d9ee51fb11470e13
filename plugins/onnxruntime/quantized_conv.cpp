#include "onnxruntime/quantized_conv.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "onnxruntime/conv_checks.hpp"

namespace pagdeploy::ort {

namespace {

using Rules = PerforatedConvRules;

// The inputs: those about y, if there are any, are in front of the bias.
enum Position : std::size_t {
    kX, kXScale, kXZero, kW, kWScale, kWZero, kYScale, kYZero,
    kBias = kYScale, kBase, kBaseScale, kBaseZero, kPixels
};

Value constant(const KernelInfo& info, std::size_t index, const char* name) {
    const Value value = info.constantInput(index);
    PAG_CHECK(value.data != nullptr, std::string(name) + " must be constant");
    return value;
}

const Value& single(const Value& value, const char* name) {
    PAG_CHECK(value.elements() == 1,
              std::string(name) + " is " + textOf(value.shape) + " and must be one value");
    return value;
}

float step(float value, const char* name) {
    PAG_CHECK(std::isnormal(value) && value > 0.0f,
              std::string(name) + " is " + std::to_string(value) +
                  " and must be a positive number that is not denormal");
    return value;
}

cpu::Units unitsAt(const KernelInfo& info, std::size_t index, const char* scale,
                   const char* zero) {
    const float* of = single(constant(info, index, scale), scale).as<float>();
    const Value point = single(constant(info, index + 1, zero), zero);
    return {step(*of, scale), *point.as<std::uint8_t>()};
}

PerforatedConvAttributes readForm(const KernelInfo& info) {
    PerforatedConvAttributes attributes;
    visitPerforatedConv(attributes, [&](const char* name, auto& v) { info.read(name, v); });
    Rules::checkAttributes(attributes);
    PAG_CHECK(attributes.group == 1, "attribute 'group' is " + std::to_string(attributes.group) +
                                         " and must be 1");
    PAG_CHECK(attributes.activation == kActivationNone || attributes.activation == kActivationRelu,
              "attribute 'activation' is " + std::to_string(attributes.activation) +
                  " and must be 0 or 1");
    return attributes;
}

// (M,): the steps of the weights, whose zero points are 0.
std::vector<float> weightSteps(const KernelInfo& info, std::size_t outputs) {
    const Value scale = constant(info, kWScale, "w_scale");
    const Value zero = constant(info, kWZero, "w_zero_point");
    for (const Value* value : {&scale, &zero}) {
        const bool byChannel = value->shape.rank == 1 && value->elements() == outputs;
        PAG_CHECK(byChannel || value->elements() == 1,
                  "w_scale and w_zero_point must be one value or one for each output channel, "
                  "not " + textOf(value->shape));
    }
    for (std::size_t i = 0; i < zero.elements(); ++i) {
        PAG_CHECK(zero.as<std::int8_t>()[i] == 0, "w_zero_point must be 0");
    }
    std::vector<float> steps(outputs);
    for (std::size_t m = 0; m < outputs; ++m) {
        steps[m] = step(scale.as<float>()[scale.elements() == 1 ? 0 : m], "w_scale");
    }
    return steps;
}

// What no sum may pass: the kernels add in 32 bits.
void checkSums(const std::int8_t* weights, const std::int32_t* bias, std::size_t outputs,
               std::size_t perOutput, std::int32_t zero) {
    for (std::size_t m = 0; m < outputs; ++m) {
        double largest = std::fabs(static_cast<double>(bias[m]));
        for (std::size_t k = 0; k < perOutput; ++k) {
            largest += std::fabs(static_cast<double>(weights[m * perOutput + k])) *
                       std::max(zero, 255 - zero);
        }
        PAG_CHECK(largest <= std::numeric_limits<std::int32_t>::max(),
                  "the sums of output channel " + std::to_string(m) + " may leave 32 bits");
    }
}

}  // namespace

QuantizedConv::QuantizedConv(const KernelInfo& info, std::size_t yInputs)
    : yInputs_(yInputs), attributes_(readForm(info)) {
    std::int32_t inactive = 0;
    info.read("inactive", inactive);
    PAG_CHECK(inactive == 0 || inactive == 2, "attribute 'inactive' is " +
                                                  std::to_string(inactive) + " and must be 0 or 2");
    inactiveAreDead_ = inactive == 2;
    const Value w = constant(info, kW, "w");
    const Value bias = constant(info, kBias + yInputs, "B");
    weightShape_ = w.shape;
    PAG_CHECK(w.shape.rank == 4, "w must be of rank 4, not " + std::to_string(w.shape.rank));
    Tensor tensors[Rules::kInputs + 1];
    tensors[Rules::kX].shape = {4, {-1, w.shape.d[1], -1, -1}};
    tensors[Rules::kSelection].shape = {4, {-1, 1, -1, -1}};
    tensors[Rules::kW].shape = w.shape;
    tensors[Rules::kB].shape = bias.shape;
    tensors[Rules::kBase].shape = {4, {1, 1, 1, 1}};
    checkedOutput(attributes_, tensors);

    cpu::QuantizedForm form{};
    form.x = unitsAt(info, kXScale, "x_scale", "x_zero_point");
    form.base = unitsAt(info, kBaseScale + yInputs, "base_scale", "base_zero_point");
    form.givesFloats = yInputs == 0;
    form.mode = attributes_.mode;
    form.relu = attributes_.activation == kActivationRelu;
    if (!form.givesFloats) {
        form.y = unitsAt(info, kYScale, "y_scale", "y_zero_point");
        PAG_CHECK(form.mode == kModeAdd || form.base == form.y,
                  "base must have the scale and the zero point of y, which shows it");
    }
    const auto outputs = static_cast<std::size_t>(w.shape.d[0]);
    const std::vector<float> steps = weightSteps(info, outputs);
    for (const float step : steps) {
        const float scale = form.x.step * step / (form.givesFloats ? 1.0f : form.y.step);
        PAG_CHECK(std::isfinite(scale), "x_scale, w_scale and y_scale make what float32 cannot hold");
    }
    checkSums(w.as<std::int8_t>(), bias.as<std::int32_t>(), outputs,
              outputs == 0 ? 0 : w.elements() / outputs, form.x.zero);
    convolution_ = std::make_unique<const cpu::QuantizedConvolution>(
        cpu::kernelShapeOf(attributes_, static_cast<int>(w.shape.d[1]), static_cast<int>(outputs)),
        w.as<std::int8_t>(), bias.as<std::int32_t>(), steps.data(), form,
        *cpu::quantizedSets().front());
}

void QuantizedConv::compute(Context& context) const {
    const Value x = context.input(kX);
    const Value base = context.input(kBase + yInputs_);
    Tensor tensors[Rules::kInputs + 1];
    tensors[Rules::kX].shape = channelsFirst(x.shape);
    tensors[Rules::kSelection].shape = {4, {x.shape.d[0], 1, 1, 1}};  // the list stands for it
    tensors[Rules::kW].shape = weightShape_;
    tensors[Rules::kB].shape = {1, {weightShape_.d[0]}};
    tensors[Rules::kBase].shape = channelsFirst(base.shape);
    const TensorShape y = checkedOutput(attributes_, tensors);
    const Listed pixels(context.input(kPixels + yInputs_), y);
    const std::vector<std::int64_t> shape{y.d[0], y.d[2], y.d[3], y.d[1]};
    const bool givesFloats = yInputs_ == 0;
    convolution_->run({gridOf(tensors[Rules::kX].shape), x.as<std::uint8_t>(), pixels.list,
                       pixels.count, base.as<std::uint8_t>(), Rules::baseIsOneValue(tensors),
                       inactiveAreDead_,
                       givesFloats ? nullptr : context.output<std::uint8_t>(shape),
                       givesFloats ? context.output<float>(shape) : nullptr},
                      context);
}

void QLinearConvKernel::inferShape(const ShapeContext& context) {
    inferConv(context, kW, kW, kBase + 2, {0, 3, 1, 2}, kOutput);
}

void QLinearConvFloatKernel::inferShape(const ShapeContext& context) {
    inferConv(context, kW, kW, kBase, {0, 3, 1, 2}, kOutput);
}

}  // namespace pagdeploy::ort
