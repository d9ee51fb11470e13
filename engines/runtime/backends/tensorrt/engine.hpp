// A deserialized plan; contexts of several threads share it.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backends/tensorrt/cuda.hpp"
#include "backends/tensorrt/tensorrt.hpp"

namespace pagdeploy::runtime {

class TrtEngine {
public:
    explicit TrtEngine(const BackendEngineSpec& spec);

    struct Tensor {
        std::string name;
        std::int32_t dtype;
        bool isShape;   // TensorRT computes sizes from its values, or computes it from sizes
        bool isOnHost;  // TensorRT reads or writes it there
    };

    const std::vector<Tensor>& inputs() const { return inputs_; }
    const std::vector<Tensor>& outputs() const { return outputs_; }
    const char* runtime() const { return name_.c_str(); }

    // Makes the engine's GPU the current one of the calling thread for a while.
    UsedDevice useDevice() const { return UsedDevice(device_); }
    std::unique_ptr<nvinfer1::IExecutionContext> makeContext();
    nvinfer1::ICudaEngine& plan() const { return *plan_; }
    TensorRtLog& log() { return *log_; }
    // Whether sizes depend on values that the caller may change without binding anew.
    bool readsShapes() const;

private:
    static std::string checkedName(const BackendEngineSpec& spec);
    Tensor described(const BackendTensor& tensor, nvinfer1::TensorIOMode mode) const;

    TensorRtLog::Loan log_;  // before what reports to it
    int device_;
    std::string name_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> plan_;
    std::vector<Tensor> inputs_;
    std::vector<Tensor> outputs_;
    std::mutex making_;
};

}  // namespace pagdeploy::runtime
