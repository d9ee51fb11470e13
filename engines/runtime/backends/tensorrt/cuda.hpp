// The few calls of CUDA that a plan needs around it, and what they hold.
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <utility>

#include "backends/border.hpp"

namespace pagdeploy::runtime {

inline void checkCuda(cudaError_t status, const char* action) {
    if (status != cudaSuccess) {
        throw Refusal(status == cudaErrorMemoryAllocation ? PAG_ENVIRONMENT : PAG_FAILED,
                      std::string(action) + " failed (" + cudaGetErrorString(status) + ").",
                      "Run 'pagdeploy doctor' to see what is wrong with the GPU.");
    }
}

// The calling thread's GPU, for as long as this lives; then it is again what the caller had.
class UsedDevice {
public:
    explicit UsedDevice(int device) {
        if (cudaGetDevice(&before_) != cudaSuccess) {
            before_ = device;
        }
        checkCuda(cudaSetDevice(device), "Choosing the GPU");
        changed_ = before_ != device;
    }
    UsedDevice(const UsedDevice&) = delete;
    UsedDevice& operator=(const UsedDevice&) = delete;
    ~UsedDevice() {
        if (changed_) {
            cudaSetDevice(before_);
        }
    }

private:
    int before_ = 0;
    bool changed_ = false;
};

// Memory of the GPU that only grows.
class DeviceBuffer {
public:
    DeviceBuffer() = default;
    DeviceBuffer(DeviceBuffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    DeviceBuffer(const DeviceBuffer&) = delete;
    DeviceBuffer& operator=(const DeviceBuffer&) = delete;
    ~DeviceBuffer() { cudaFree(data_); }

    void* data() const { return data_; }

    void* atLeast(std::size_t bytes) {
        if (data_ == nullptr || bytes > bytes_) {
            cudaFree(data_);
            data_ = nullptr;
            bytes_ = bytes == 0 ? 1 : bytes;
            checkCuda(cudaMalloc(&data_, bytes_), "Allocating memory of the GPU");
        }
        return data_;
    }

private:
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

// A recorded run, or none.
class Graph {
public:
    Graph() = default;
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;
    ~Graph() { clear(); }

    explicit operator bool() const { return graph_ != nullptr; }

    void clear() {
        if (graph_ != nullptr) {
            cudaGraphExecDestroy(graph_);
            graph_ = nullptr;
        }
    }

    // Of what `enqueue` puts on the stream.
    template <class Enqueue>
    void record(cudaStream_t stream, Enqueue&& enqueue) {
        clear();
        // Other threads may go on allocating meanwhile.
        checkCuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
                  "Beginning the CUDA graph");
        cudaGraph_t recorded = nullptr;
        try {
            enqueue();
        } catch (...) {
            cudaStreamEndCapture(stream, &recorded);  // the stream is the caller's: leave it usable
            cudaGetLastError();                       // and so is what CUDA remembers
            destroy(recorded);
            throw;
        }
        checkCuda(cudaStreamEndCapture(stream, &recorded), "Recording the CUDA graph");
#if CUDART_VERSION >= 12000
        const cudaError_t status = cudaGraphInstantiate(&graph_, recorded, 0);
#else
        const cudaError_t status = cudaGraphInstantiateWithFlags(&graph_, recorded, 0);
#endif
        destroy(recorded);
        checkCuda(status, "Instantiating the CUDA graph");
    }

    void launch(cudaStream_t stream) const {
        checkCuda(cudaGraphLaunch(graph_, stream), "Launching the CUDA graph");
    }

private:
    static void destroy(cudaGraph_t graph) {
        if (graph != nullptr) {
            cudaGraphDestroy(graph);
        }
    }

    cudaGraphExec_t graph_ = nullptr;
};

}  // namespace pagdeploy::runtime
