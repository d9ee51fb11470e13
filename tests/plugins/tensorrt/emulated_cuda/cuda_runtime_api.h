// The CUDA runtime for plugins and TensorRT's headers, answered by the kernels' emulator.
#pragma once

#include <cstring>
#include <string>

#include "emulator/cuda_runtime_api.h"

using cudaEvent_t = struct EmulatedEvent*;

inline const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorMisalignedAddress ? "misaligned address" : "emulated error";
}

inline cudaError_t cudaMemsetAsync(void* data, int value, std::size_t size, cudaStream_t) {
    std::memset(data, value, size);
    return cudaSuccess;
}
