// An onnxruntime session, made as the Python engine makes its own (engines/ort.py).
#pragma once

#include <string>
#include <vector>

#include "backends/onnxruntime/api.hpp"

namespace pagdeploy::runtime {

class OrtEngine {
public:
    explicit OrtEngine(const BackendEngineSpec& spec);

    OrtSession* session() const { return session_.get(); }
    bool isOnGpu() const { return isOnGpu_; }
    const char* runtime() const { return runtime_.c_str(); }

    // What is bound may lie on either; both as onnxruntime describes them.
    const OrtMemoryInfo* memoryInfo(std::int32_t memory) const {
        return memory == PAG_DEVICE ? deviceMemory_.get() : hostMemory_.get();
    }

    const std::vector<const char*>& inputNames() const { return inputNames_; }
    const std::vector<const char*>& outputNames() const { return outputNames_; }
    ONNXTensorElementDataType inputDtype(std::size_t index) const { return dtypes_[index]; }
    ONNXTensorElementDataType outputDtype(std::size_t index) const {
        return dtypes_[inputNames_.size() + index];
    }

private:
    OrtHandle<OrtSessionOptions> options(const BackendEngineSpec& spec) const;
    void useCuda(OrtSessionOptions* options, int device) const;
    void requireTensors(const BackendEngineSpec& spec) const;

    bool isOnGpu_;
    std::string runtime_;
    OrtHandle<OrtMemoryInfo> hostMemory_;
    OrtHandle<OrtMemoryInfo> deviceMemory_;
    OrtHandle<OrtSession> session_;
    std::vector<const char*> inputNames_;
    std::vector<const char*> outputNames_;
    std::vector<ONNXTensorElementDataType> dtypes_;
};

}  // namespace pagdeploy::runtime
