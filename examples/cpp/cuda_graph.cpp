// A TensorRT bundle recorded as a CUDA graph, in memory of the GPU: cuda_graph BUNDLE RUNS
//
// Runs on zeros of the sample's shapes. A replay reads and writes the bound addresses, so a camera's
// frames are copied there, or produced there.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <iostream>

#include "photo.hpp"

using namespace pagdeploy;

namespace {

void check(cudaError_t status) {
    if (status != cudaSuccess) {
        throw std::runtime_error(cudaGetErrorString(status));
    }
}

std::size_t bytesOf(const TensorInfo& tensor) {
    std::size_t bytes = tensor.dtype == PAG_INT64 || tensor.dtype == PAG_FLOAT64 ? 8 : 4;
    for (const std::int64_t size : tensor.sampleShape) {
        bytes *= static_cast<std::size_t>(size);
    }
    return bytes;
}

// Memory of the GPU, filled with zeros.
struct Memory {
    explicit Memory(std::size_t bytes) {
        check(cudaMalloc(&data, bytes));
        check(cudaMemset(data, 0, bytes));
    }
    Memory(Memory&& other) noexcept : data(std::exchange(other.data, nullptr)) {}
    ~Memory() { cudaFree(data); }

    void* data = nullptr;
};

struct Stream {
    Stream() { check(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking)); }
    ~Stream() { cudaStreamDestroy(handle); }

    cudaStream_t handle = nullptr;
};

}  // namespace

int main(int count, char** arguments) {
    if (count < 3) {
        std::cerr << "cuda_graph BUNDLE RUNS\n";
        return 2;
    }
    try {
        const Bundle bundle = Bundle::open(arguments[1]).value();
        const Engine engine = Engine::create(bundle, optionsOfEnvironment()).value();
        const Stream stream;  // it and the memory outlive the context, which is released first
        std::vector<Memory> memory;
        Context context = Context::create(engine).value();
        for (const TensorInfo& input : bundle.inputs()) {
            if (input.shape.empty()) {
                context.setScalar(input.name, 0).value();  // read anew by every replay
                continue;
            }
            memory.emplace_back(bytesOf(input));
            context.bindInput(input.name, memory.back().data, bytesOf(input), input.dtype,
                              input.sampleShape, PAG_DEVICE).value();
        }
        for (const TensorInfo& output : bundle.outputs()) {
            memory.emplace_back(bytesOf(output));
            context.bindOutput(output.name, memory.back().data, bytesOf(output), output.dtype,
                               PAG_DEVICE).value();
        }
        context.capture(stream.handle).value();
        for (int i = 0; i < std::atoi(arguments[2]); ++i) {
            context.run(stream.handle).value();
        }
        check(cudaStreamSynchronize(stream.handle));
        std::cout << engine.runtime() << ": " << arguments[2] << " replays\n";
    } catch (const std::exception& failure) {
        std::cerr << failure.what() << "\n";
        return 1;
    }
    return 0;
}
