// An OrtCustomOp from a kernel class.
#pragma once

#include <iterator>

#include "onnxruntime/api.hpp"

namespace pagdeploy::ort {

struct InputPort {
    ONNXTensorElementDataType type;
    bool isOptional = false;
};

constexpr InputPort kFloats{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT};
constexpr InputPort kInt32s{ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32};
constexpr InputPort kInt64s{ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64};

// `Kernel` has
//     static constexpr const char* kName;
//     static constexpr InputPort kInputs[];
//     static constexpr ONNXTensorElementDataType kOutput;
//     static constexpr int kInPlaceInput;              // whose buffer the output may take; or -1
//     explicit Kernel(const KernelInfo&);
//     void compute(Context&) const;                    // any number of them at a time
//     static void inferShape(const ShapeContext&);     // without it nothing happens in place
template <typename Kernel>
struct CustomOp : OrtCustomOp {
    CustomOp() : OrtCustomOp{} {
        version = kApiVersion;
        GetName = [](const OrtCustomOp*) { return Kernel::kName; };
        GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
        GetInputTypeCount = [](const OrtCustomOp*) { return std::size(Kernel::kInputs); };
        GetInputType = [](const OrtCustomOp*, std::size_t i) { return Kernel::kInputs[i].type; };
        GetInputCharacteristic = [](const OrtCustomOp*, std::size_t i) {
            return Kernel::kInputs[i].isOptional ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
        };
        GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
        GetOutputTypeCount = [](const OrtCustomOp*) { return std::size_t{1}; };
        GetOutputType = [](const OrtCustomOp*, std::size_t) { return Kernel::kOutput; };
        GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) {
            return INPUT_OUTPUT_REQUIRED;
        };
        GetVariadicInputMinArity = [](const OrtCustomOp*) { return 0; };
        GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 0; };
        GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 0; };
        GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 0; };
        GetStartVersion = [](const OrtCustomOp*) { return 1; };
        GetEndVersion = [](const OrtCustomOp*) { return 1; };
        CreateKernelV2 = [](const OrtCustomOp*, const OrtApi*, const OrtKernelInfo* info,
                            void** kernel) {
            return guarded(Kernel::kName, [&] { *kernel = new Kernel(KernelInfo(info)); });
        };
        KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
            return guarded(Kernel::kName, [&] {
                Context here(context);
                static_cast<const Kernel*>(kernel)->compute(here);
            });
        };
        KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
        InferOutputShapeFn = [](const OrtCustomOp*, OrtShapeInferContext* context) {
            return guarded(Kernel::kName, [&] { Kernel::inferShape(ShapeContext(context)); });
        };
        if (Kernel::kInPlaceInput >= 0) {
            // The arrays are handed over, so they cannot be static.
            GetMayInplace = [](int** input, int** output) {
                *input = new int(Kernel::kInPlaceInput);
                *output = new int(0);
                return std::size_t{1};
            };
            ReleaseMayInplace = [](int* input, int* output) {
                delete input;
                delete output;
            };
        }
    }
};

}  // namespace pagdeploy::ort
