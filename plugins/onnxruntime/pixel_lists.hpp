// PAGGate of the domain pagdeploy; ActivePixels and SupportPixels of pagdeploy.cpu.
//
//   PAGGate(logits) -> selection
//     logits     float32 (N, K, H, W), K in 1..16
//     selection  int32 (N, 1, H, W): the branch with the largest logit, the first one in a tie
//
//   ActivePixels(selection) -> pixels                 attribute: branch (1)
//     selection  int32, any shape; read as one list of pixels
//     pixels     int32 (n,): the indices where selection == branch, ascending
//
//   SupportPixels(pixels, size) -> support
//     attributes: kernel_shape, strides, pads, dilations, as of the convolution that reads
//     pixels     int32 (n,): output pixels of that convolution, ascending
//     size       int64 (3,): N, H, W of its input
//     support    int32 (m,): the input pixels that those outputs read, ascending
//
// A pixel (n, y, x) has the index (n * H + y) * W + x. The kernels' own checks refuse lists that
// are not ascending or leave the map.
#pragma once

#include "onnxruntime/custom_op.hpp"
#include "perforated_conv/cpu/shape.hpp"

namespace pagdeploy::ort {

struct GateKernel {
    static constexpr const char* kName = "PAGGate";
    static constexpr InputPort kInputs[] = {kFloats};
    static constexpr ONNXTensorElementDataType kOutput = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    static constexpr int kInPlaceInput = -1;

    explicit GateKernel(const KernelInfo&) {}
    void compute(Context& context) const;
    static void inferShape(const ShapeContext& context);
};

class ActivePixelsKernel {
public:
    static constexpr const char* kName = "ActivePixels";
    static constexpr InputPort kInputs[] = {kInt32s};
    static constexpr ONNXTensorElementDataType kOutput = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    static constexpr int kInPlaceInput = -1;

    explicit ActivePixelsKernel(const KernelInfo& info);
    void compute(Context& context) const;
    // How many there are shows at run time.
    static void inferShape(const ShapeContext&) {}

private:
    std::int32_t branch_ = 1;
};

class SupportPixelsKernel {
public:
    static constexpr const char* kName = "SupportPixels";
    static constexpr InputPort kInputs[] = {kInt32s, kInt64s};
    static constexpr ONNXTensorElementDataType kOutput = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    static constexpr int kInPlaceInput = -1;

    explicit SupportPixelsKernel(const KernelInfo& info);
    void compute(Context& context) const;
    static void inferShape(const ShapeContext&) {}

private:
    cpu::KernelShape shape_;
};

// Throws unless the list is (n,), ascending and within a map of that many pixels.
void checkPixels(const Value& pixels, std::int64_t mapPixels);

}  // namespace pagdeploy::ort
