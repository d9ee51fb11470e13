// One thread's runs of a plan, on the caller's stream and in the caller's memory.
#pragma once

#include <memory>
#include <vector>

#include "backends/tensorrt/cuda.hpp"
#include "backends/tensorrt/engine.hpp"
#include "backends/tensorrt/output_allocator.hpp"

namespace pagdeploy::runtime {

// An output for which too little memory is bound.
Refusal tooSmall(const std::string& name, std::size_t needed);

class TrtRunner {
public:
    TrtRunner(TrtEngine& engine, const BackendContextSpec& spec);

    const TrtEngine& engine() const { return engine_; }
    void run(const Binding* inputs, const Binding* outputs, bool rebound, cudaStream_t stream);
    void capture(const Binding* inputs, const Binding* outputs, cudaStream_t stream);
    pag_tensor output(std::size_t index) const { return tensors_[index]; }

private:
    // binding.cpp
    void bind(const Binding* inputs, const Binding* outputs, cudaStream_t stream);
    void chooseProfile(const Binding* inputs, cudaStream_t stream);
    bool takes(int profile, const Binding* inputs) const;
    void bindInput(std::size_t index, const Binding& binding);
    void bindOutput(std::size_t index, const Binding& binding);

    // runner.cpp
    bool upload(const Binding* inputs, cudaStream_t stream);
    void enqueue(cudaStream_t stream);
    void handOver(const Binding* outputs, bool waits, cudaStream_t stream);
    void* hostMemory(std::size_t index, const Binding& binding, std::size_t bytes);

    TrtEngine& engine_;
    BackendContextSpec spec_;
    // Before the context, which may ask them until it is gone.
    std::vector<std::unique_ptr<OutputAllocator>> allocators_;
    std::vector<DeviceBuffer> inputBuffers_;  // of inputs that lie on the host
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    std::vector<std::vector<unsigned char>> hostBuffers_;  // of outputs that nobody gave memory for
    std::vector<pag_tensor> tensors_;
    Graph graph_;
    int profile_ = -1;
};

}  // namespace pagdeploy::runtime
