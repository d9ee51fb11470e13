// Memory for an output, of which TensorRT may tell the size only when it runs.
#pragma once

#include <NvInferRuntime.h>

#include <cstddef>
#include <cstdint>

#include "backends/tensorrt/cuda.hpp"

namespace pagdeploy::runtime {

class OutputAllocator final : public nvinfer1::IOutputAllocator {
public:
    // Memory of the caller, or null.
    void give(void* data, std::size_t bytes) { given_ = data, givenBytes_ = bytes; }
    // Memory of its own.
    void* own(std::size_t bytes) { return own_.atLeast(bytes); }
    // Where the output is, and its sizes, if both are known before the run.
    void settle(void* address, const nvinfer1::Dims& dims) { address_ = address, dims_ = dims; }

    void* address() const { return address_; }
    const nvinfer1::Dims& dims() const { return dims_; }

#if NV_TENSORRT_MAJOR >= 10
    void* reallocateOutputAsync(char const*, void*, std::uint64_t bytes, std::uint64_t,
                                cudaStream_t) noexcept override {
        return place(bytes);
    }
#else
    void* reallocateOutput(char const*, void*, std::uint64_t bytes, std::uint64_t) noexcept override {
        return place(bytes);
    }
#endif
    void notifyShape(char const*, nvinfer1::Dims const& dims) noexcept override { dims_ = dims; }

private:
    // What exceeds the memory of the caller goes into ours, so that the run can end and say so.
    void* place(std::uint64_t bytes) noexcept {
        try {
            address_ = given_ != nullptr && bytes <= givenBytes_ ? given_ : own_.atLeast(bytes);
        } catch (...) {
            address_ = nullptr;
        }
        return address_;
    }

    void* given_ = nullptr;
    std::size_t givenBytes_ = 0;
    void* address_ = nullptr;
    nvinfer1::Dims dims_{};
    DeviceBuffer own_;
};

}  // namespace pagdeploy::runtime
