// The arguments of TensorRT's calls as an op's core wants them; the same for V2 and V3 plugins.
#pragma once

#include <string>

#include "common/planned.hpp"
#include "common/trt_compat.hpp"

namespace pagdeploy {

template <typename Op>
struct Descriptors {
    using Dynamic = nvinfer1::DynamicPluginTensorDesc;
    using Desc = nvinfer1::PluginTensorDesc;
    using Tensors = typename Planned<Op>::Tensors;
    static constexpr int kInputs = Op::kInputs;

    static void checkCounts(std::int32_t inputCount, std::int32_t outputCount) {
        PAG_CHECK(inputCount == kInputs && outputCount == 1,
                  "it takes " + std::to_string(kInputs) + " inputs and gives one output, not " +
                      std::to_string(inputCount) + " and " + std::to_string(outputCount));
    }

    static nvinfer1::DataType outputType(const nvinfer1::DataType* inputs) {
        TensorType types[kInputs];
        for (int i = 0; i < kInputs; ++i) {
            types[i] = typeOf(inputs[i]);
        }
        return trtType(Op::outputType(types));
    }

    static nvinfer1::DimsExprs outputShape(const typename Op::Attributes& attributes,
                                           const nvinfer1::DimsExprs* inputs,
                                           nvinfer1::IExprBuilder& builder) {
        Tensor ranks[kInputs];
        for (int i = 0; i < kInputs; ++i) {
            ranks[i].shape.rank = inputs[i].nbDims;
        }
        return trtShape(Op::outputShape(attributes, ranks), inputs, builder);
    }

    template <typename SomeDesc>
    static bool supports(std::int32_t position, const SomeDesc* tensors) {
        PAG_CHECK(position >= 0 && position <= kInputs, "there is no such tensor");
        Tensor seen[kInputs + 1];
        for (int i = 0; i <= position; ++i) {  // later ones are undefined
            seen[i] = tensorOf(descOf(tensors[i]));
        }
        return Op::supports(position, seen);
    }

    // Sizes of the network and its profile; unknown where the profile leaves a choice.
    static Tensors known(const Dynamic* inputs, const Dynamic* outputs) {
        return collect(inputs, outputs, [](const Dynamic& tensor) { return knownTensor(tensor); });
    }

    static Tensors largest(const Dynamic* inputs, const Dynamic* outputs) {
        return collect(inputs, outputs,
                       [](const Dynamic& tensor) { return tensorOf(tensor.desc, tensor.max); });
    }

    static Tensors exact(const Desc* inputs, const Desc* outputs) {
        return collect(inputs, outputs, [](const Desc& tensor) { return tensorOf(tensor); });
    }

private:
    static const Desc& descOf(const Desc& tensor) { return tensor; }
    static const Desc& descOf(const Dynamic& tensor) { return tensor.desc; }

    template <typename SomeDesc, typename Convert>
    static Tensors collect(const SomeDesc* inputs, const SomeDesc* outputs, Convert&& convert) {
        Tensors tensors;
        for (int i = 0; i < kInputs; ++i) {
            tensors[i] = convert(inputs[i]);
        }
        tensors[kInputs] = convert(outputs[0]);
        return tensors;
    }
};

}  // namespace pagdeploy
