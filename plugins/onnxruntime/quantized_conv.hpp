// QLinearPerforatedConvNhwc and QLinearPerforatedConvNhwcFloat of the domain pagdeploy.cpu.
//
//   QLinearPerforatedConvNhwc(x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale,
//                             y_zero_point, B, base, base_scale, base_zero_point, pixels) -> y
//     attributes: those of PerforatedConvNhwc; group 1, activation 0 or 1, inactive 0 or 2
//     x       uint8 (N, H, W, C)
//     w       int8 (M, C, kernel height, kernel width); its zero point is 0
//     B       int32 (M,), in steps of x_scale * w_scale
//     base    uint8 (N, Ho, Wo, M), or (1, 1, 1, 1) for one value
//     pixels  int32 (n,), as in PerforatedConvNhwc
//     y       uint8 (N, Ho, Wo, M)
//     *_scale, *_zero_point  one value; w_scale and w_zero_point (M,) or one value
//
//     Mode replace rounds as ONNX's QLinearConv does in onnxruntime, and base is in the steps of y.
//     Mode add is QuantizeLinear(activation(DequantizeLinear(base) + c)), each in float32, where
//     the int32 sum times x_scale * w_scale is c.
//
//   QLinearPerforatedConvNhwcFloat is the same without y_scale and y_zero_point: y is float32, and
//   nothing is quantized.
//
// All but x, base and pixels are constant. The first one may run in place on base.
#pragma once

#include <memory>
#include <type_traits>

#include "onnxruntime/custom_op.hpp"
#include "perforated_conv/cpu/quantized_convolution.hpp"

namespace pagdeploy::ort {

constexpr InputPort kBytes{ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8};
constexpr InputPort kSignedBytes{ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8};

// Both, by the type of y. `yInputs` says how many inputs are about y.
class QuantizedConv {
public:
    QuantizedConv(const KernelInfo& info, std::size_t yInputs);

    void compute(Context& context) const;

private:
    std::size_t yInputs_;
    PerforatedConvAttributes attributes_;
    bool inactiveAreDead_;
    TensorShape weightShape_;
    std::unique_ptr<const cpu::QuantizedConvolution> convolution_;
};

class QLinearConvKernel {
public:
    static constexpr const char* kName = "QLinearPerforatedConvNhwc";
    static constexpr InputPort kInputs[] = {
        kBytes,  kFloats,  kBytes,  kSignedBytes, kFloats, kSignedBytes, kFloats,
        kBytes,  kInt32s,  kBytes,  kFloats,      kBytes,
        {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, true}};
    static constexpr ONNXTensorElementDataType kOutput = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    static constexpr int kInPlaceInput = 9;

    explicit QLinearConvKernel(const KernelInfo& info) : conv_(info, 2) {}
    void compute(Context& context) const { conv_.compute(context); }
    static void inferShape(const ShapeContext& context);

private:
    QuantizedConv conv_;
};

class QLinearConvFloatKernel {
public:
    static constexpr const char* kName = "QLinearPerforatedConvNhwcFloat";
    static constexpr InputPort kInputs[] = {
        kBytes,  kFloats, kBytes,  kSignedBytes, kFloats, kSignedBytes,
        kInt32s, kBytes,  kFloats, kBytes,
        {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, true}};
    static constexpr ONNXTensorElementDataType kOutput = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    static constexpr int kInPlaceInput = -1;

    explicit QLinearConvFloatKernel(const KernelInfo& info) : conv_(info, 0) {}
    void compute(Context& context) const { conv_.compute(context); }
    static void inferShape(const ShapeContext& context);

private:
    QuantizedConv conv_;
};

}  // namespace pagdeploy::ort
