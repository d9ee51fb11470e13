// PerforatedConv of the domain pagdeploy; PerforatedConvNhwc and PerforatedConvPairNhwc of
// pagdeploy.cpu.
//
//   PerforatedConv(X, selection, W, B, base) -> Y       exactly as docs/ops.md defines it, float32
//
//   PerforatedConvNhwc(X, W, B, base, pixels) -> Y
//     attributes: those of PerforatedConv without branch, and inactive (0)
//     X       float32 (N, H, W, C)
//     W       float32 (M, C / group, kernel height, kernel width), as in PerforatedConv
//     B       float32 (M,)
//     base    float32 (N, Ho, Wo, M), or (1, 1, 1, 1) for one value
//     pixels  int32 (n,): the output pixels to compute, ascending; left out: all of them
//     Y       float32 (N, Ho, Wo, M)
//
//     inactive says what the pixels that are not listed show:
//       0 define  as the op does: base, or activation(base) in mode add
//       1 base    base; whoever writes it has proved that activation(base) == base
//       2 dead    anything; whoever writes it has proved that nobody reads them
//
//   PerforatedConvPairNhwc(X, W, B, W2, B2, base, pixels) -> Y
//     One after the other at the same pixels:
//         inner = PerforatedConvNhwc(X, W, B, 0, pixels), with inner_activation and inner_alpha
//         Y = PerforatedConvNhwc(inner, W2, B2, base, pixels), pointwise
//     attributes: those of PerforatedConvNhwc, of which mode, activation, alpha and inactive are
//             the second one's and all others the first one's; inner_activation, inner_alpha (0)
//     W2      float32 (M2, M, 1, 1)
//     B2      float32 (M2,)
//     base    float32 (N, Ho, Wo, M2), or (1, 1, 1, 1) for one value
//     Y       float32 (N, Ho, Wo, M2)
//
// All take weights and biases that are computed, but pack them once only if they are constant. All
// may run in place on base; onnxruntime never lets them where X is base too.
#pragma once

#include <memory>

#include "onnxruntime/custom_op.hpp"
#include "perforated_conv/cpu/activation.hpp"
#include "perforated_conv/cpu/convolution.hpp"
#include "perforated_conv/rules.hpp"

namespace pagdeploy::ort {

PerforatedConvAttributes readAttributes(const KernelInfo& info);

// Attributes, and weights packed when the model is loaded.
class ConvWeights {
public:
    ConvWeights(const KernelInfo& info, PerforatedConvAttributes attributes,
                std::size_t weightInput, std::size_t biasInput);

    const PerforatedConvAttributes& attributes() const { return attributes_; }
    cpu::Bend bend() const { return cpu::bendOf(attributes_.activation, attributes_.alpha); }

    // The convolution for these inputs; `tensors` have passed the rules.
    std::shared_ptr<const cpu::Convolution> convolution(const Value& weights,
                                                        const Value& bias) const;

private:
    std::shared_ptr<const cpu::Convolution> pack(const Value& weights, const Value& bias) const;

    PerforatedConvAttributes attributes_;
    std::shared_ptr<const cpu::Convolution> constant_;
};

class ConvKernel {
public:
    static constexpr const char* kName = "PerforatedConv";
    static constexpr InputPort kInputs[] = {kFloats, kInt32s, kFloats, kFloats, kFloats};
    static constexpr ONNXTensorElementDataType kOutput = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    static constexpr int kInPlaceInput = 4;

    explicit ConvKernel(const KernelInfo& info) : weights_(info, readAttributes(info), 2, 3) {}
    void compute(Context& context) const;
    static void inferShape(const ShapeContext& context);

private:
    ConvWeights weights_;
};

class ConvNhwcKernel {
public:
    static constexpr const char* kName = "PerforatedConvNhwc";
    static constexpr InputPort kInputs[] = {kFloats, kFloats, kFloats, kFloats,
                                            {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, true}};
    static constexpr ONNXTensorElementDataType kOutput = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    static constexpr int kInPlaceInput = 3;

    explicit ConvNhwcKernel(const KernelInfo& info);
    void compute(Context& context) const;
    static void inferShape(const ShapeContext& context);

private:
    ConvWeights weights_;
    cpu::Inactive inactive_;
};

class ConvPairNhwcKernel {
public:
    static constexpr const char* kName = "PerforatedConvPairNhwc";
    static constexpr InputPort kInputs[] = {kFloats, kFloats, kFloats, kFloats, kFloats, kFloats,
                                            {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, true}};
    static constexpr ONNXTensorElementDataType kOutput = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    static constexpr int kInPlaceInput = 5;

    explicit ConvPairNhwcKernel(const KernelInfo& info);
    void compute(Context& context) const;
    static void inferShape(const ShapeContext& context);

private:
    ConvWeights first_;
    ConvWeights second_;
    cpu::Inactive inactive_;
};

}  // namespace pagdeploy::ort
