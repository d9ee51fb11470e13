#include "onnxruntime/conv.hpp"

#include "onnxruntime/conv_checks.hpp"
#include "perforated_conv/cpu/conv_pair.hpp"
#include "perforated_conv/cpu/nchw.hpp"

namespace pagdeploy::ort {

namespace {

using Rules = PerforatedConvRules;

cpu::Inactive readInactive(const KernelInfo& info) {
    std::int32_t inactive = 0;
    info.read("inactive", inactive);
    PAG_CHECK(inactive >= 0 && inactive <= 2, "attribute 'inactive' is " +
                                                  std::to_string(inactive) +
                                                  " and must be in 0..2");
    return static_cast<cpu::Inactive>(inactive);
}

// What a pair does first, and what it does to that: what is inner belongs to the first.
PerforatedConvAttributes firstOfPair(const KernelInfo& info) {
    PerforatedConvAttributes first = readAttributes(info);
    first.mode = kModeReplace;
    first.activation = kActivationNone;
    first.alpha = 0.0f;
    info.read("inner_activation", first.activation);
    info.read("inner_alpha", first.alpha);
    return first;
}

PerforatedConvAttributes secondOfPair(const KernelInfo& info) {
    const PerforatedConvAttributes given = readAttributes(info);
    PerforatedConvAttributes second;
    second.kernel_shape = {1, 1};
    second.mode = given.mode;
    second.activation = given.activation;
    second.alpha = given.alpha;
    return second;
}

}  // namespace

PerforatedConvAttributes readAttributes(const KernelInfo& info) {
    PerforatedConvAttributes attributes;
    visitPerforatedConv(attributes, [&](const char* name, auto& v) { info.read(name, v); });
    return attributes;
}

ConvWeights::ConvWeights(const KernelInfo& info, PerforatedConvAttributes attributes,
                         std::size_t weightInput, std::size_t biasInput)
    : attributes_(std::move(attributes)) {
    Rules::checkAttributes(attributes_);
    const Value weights = info.constantInput(weightInput);
    const Value bias = info.constantInput(biasInput);
    if (weights.data != nullptr && bias.data != nullptr) {
        constant_ = pack(weights, bias);
    }
}

std::shared_ptr<const cpu::Convolution> ConvWeights::convolution(const Value& weights,
                                                                 const Value& bias) const {
    return constant_ ? constant_ : pack(weights, bias);
}

std::shared_ptr<const cpu::Convolution> ConvWeights::pack(const Value& weights,
                                                          const Value& bias) const {
    // Constants are packed before there is an X, so X is here whatever fits them.
    const TensorShape& w = weights.shape;
    PAG_CHECK(w.rank == 4, "W must be of rank 4, not " + std::to_string(w.rank));
    Tensor tensors[6];
    tensors[Rules::kX].shape = {4, {-1, w.d[1] * attributes_.group, -1, -1}};
    tensors[Rules::kSelection].shape = {4, {-1, 1, -1, -1}};
    tensors[Rules::kW].shape = w;
    tensors[Rules::kB].shape = bias.shape;
    tensors[Rules::kBase].shape = {4, {1, 1, 1, 1}};
    checkedOutput(attributes_, tensors);
    const cpu::KernelShape shape = cpu::kernelShapeOf(
        attributes_, static_cast<int>(w.d[1] * attributes_.group), static_cast<int>(w.d[0]));
    return std::make_shared<const cpu::Convolution>(shape, weights.as<float>(), bias.as<float>(),
                                                    *cpu::instructionSets().front());
}

void ConvKernel::compute(Context& context) const {
    Value values[Rules::kInputs];
    Tensor tensors[Rules::kInputs + 1];
    for (int i = 0; i < Rules::kInputs; ++i) {
        values[i] = context.input(static_cast<std::size_t>(i));
        tensors[i].shape = values[i].shape;
    }
    const PerforatedConvAttributes& attributes = weights_.attributes();
    const TensorShape y = checkedOutput(attributes, tensors);
    const Value& base = values[Rules::kBase];
    runNchw(*weights_.convolution(values[Rules::kW], values[Rules::kB]),
            {gridOf(values[Rules::kX].shape), values[Rules::kX].as<float>(),
             values[Rules::kSelection].as<std::int32_t>(), Rules::selectionIsPerImage(tensors),
             attributes.branch, base.as<float>(), Rules::baseIsOneValue(tensors), attributes.mode,
             weights_.bend(), context.output<float>({y.d[0], y.d[1], y.d[2], y.d[3]})},
            context);
}

void ConvKernel::inferShape(const ShapeContext& context) {
    inferConv(context, Rules::kW, Rules::kW, Rules::kBase, {0, 1, 2, 3}, kOutput);
}

ConvNhwcKernel::ConvNhwcKernel(const KernelInfo& info)
    : weights_(info, readAttributes(info), 1, 2), inactive_(readInactive(info)) {}

void ConvNhwcKernel::compute(Context& context) const {
    const Value x = context.input(0);
    const Value w = context.input(1);
    const Value b = context.input(2);
    const Value base = context.input(3);
    Tensor tensors[Rules::kInputs + 1];
    tensors[Rules::kX].shape = channelsFirst(x.shape);
    tensors[Rules::kSelection].shape = {4, {x.shape.d[0], 1, 1, 1}};  // the list stands for it
    tensors[Rules::kW].shape = w.shape;
    tensors[Rules::kB].shape = b.shape;
    tensors[Rules::kBase].shape = channelsFirst(base.shape);
    const TensorShape y = checkedOutput(weights_.attributes(), tensors);
    const Listed pixels(context.input(4), y);
    weights_.convolution(w, b)->run(
        {gridOf(tensors[Rules::kX].shape), x.as<float>(), pixels.list, pixels.count,
         base.as<float>(), Rules::baseIsOneValue(tensors), weights_.attributes().mode,
         weights_.bend(), inactive_, context.output<float>({y.d[0], y.d[2], y.d[3], y.d[1]}),
         false},
        context);
}

void ConvNhwcKernel::inferShape(const ShapeContext& context) {
    inferConv(context, 1, 1, 3, {0, 3, 1, 2}, kOutput);
}

ConvPairNhwcKernel::ConvPairNhwcKernel(const KernelInfo& info)
    : first_(info, firstOfPair(info), 1, 2),
      second_(info, secondOfPair(info), 3, 4),
      inactive_(readInactive(info)) {}

void ConvPairNhwcKernel::compute(Context& context) const {
    const Value x = context.input(0);
    const Value weights[] = {context.input(1), context.input(3)};
    const Value biases[] = {context.input(2), context.input(4)};
    const Value base = context.input(5);
    Tensor tensors[Rules::kInputs + 1];
    tensors[Rules::kX].shape = channelsFirst(x.shape);
    tensors[Rules::kSelection].shape = {4, {x.shape.d[0], 1, 1, 1}};  // the list stands for it
    tensors[Rules::kW].shape = weights[0].shape;
    tensors[Rules::kB].shape = biases[0].shape;
    tensors[Rules::kBase].shape = {4, {1, 1, 1, 1}};
    const Grid input = gridOf(tensors[Rules::kX].shape);
    tensors[Rules::kX].shape = checkedOutput(first_.attributes(), tensors);
    tensors[Rules::kW].shape = weights[1].shape;
    tensors[Rules::kB].shape = biases[1].shape;
    tensors[Rules::kBase].shape = channelsFirst(base.shape);
    const TensorShape y = checkedOutput(second_.attributes(), tensors);
    const Listed pixels(context.input(6), y);
    const cpu::ConvPair pair(first_.convolution(weights[0], biases[0]),
                             second_.convolution(weights[1], biases[1]));
    pair.run({input, x.as<float>(), pixels.list, pixels.count, base.as<float>(),
              Rules::baseIsOneValue(tensors), second_.attributes().mode, second_.bend(), inactive_,
              context.output<float>({y.d[0], y.d[2], y.d[3], y.d[1]}), false},
             first_.bend(), context);
}

void ConvPairNhwcKernel::inferShape(const ShapeContext& context) {
    inferConv(context, 1, 3, 5, {0, 3, 1, 2}, kOutput);
}

}  // namespace pagdeploy::ort
