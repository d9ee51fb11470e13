// ToChannelsLast, ToChannelsFirst and ChannelMeansNhwc of pagdeploy.cpu.
//
//   ToChannelsLast(X) -> Y                attributes: activation (0), alpha (0), as PerforatedConv's
//     X  float32 (N, C, H, W)
//     Y  float32 (N, H, W, C): each value through the activation
//
//   ToChannelsFirst(X) -> Y
//     X  float32 (N, H, W, C)
//     Y  float32 (N, C, H, W)
//
//   ChannelMeansNhwc(X) -> Y
//     X  float32 (N, H, W, C)
//     Y  float32 (N, 1, 1, C): the mean over each channel of each image
#pragma once

#include "onnxruntime/custom_op.hpp"
#include "perforated_conv/cpu/instruction_set.hpp"

namespace pagdeploy::ort {

class ToChannelsLastKernel {
public:
    static constexpr const char* kName = "ToChannelsLast";
    static constexpr InputPort kInputs[] = {kFloats};
    static constexpr ONNXTensorElementDataType kOutput = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    static constexpr int kInPlaceInput = -1;

    explicit ToChannelsLastKernel(const KernelInfo& info);
    void compute(Context& context) const;
    static void inferShape(const ShapeContext& context);

private:
    cpu::Bend bend_;
};

struct ToChannelsFirstKernel {
    static constexpr const char* kName = "ToChannelsFirst";
    static constexpr InputPort kInputs[] = {kFloats};
    static constexpr ONNXTensorElementDataType kOutput = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    static constexpr int kInPlaceInput = -1;

    explicit ToChannelsFirstKernel(const KernelInfo&) {}
    void compute(Context& context) const;
    static void inferShape(const ShapeContext& context);
};

struct ChannelMeansNhwcKernel {
    static constexpr const char* kName = "ChannelMeansNhwc";
    static constexpr InputPort kInputs[] = {kFloats};
    static constexpr ONNXTensorElementDataType kOutput = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    static constexpr int kInPlaceInput = -1;

    explicit ChannelMeansNhwcKernel(const KernelInfo&) {}
    void compute(Context& context) const;
    static void inferShape(const ShapeContext& context);
};

}  // namespace pagdeploy::ort
