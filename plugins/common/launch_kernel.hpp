// One way to launch a kernel, on the GPU or on the emulator.
#pragma once

#include <cuda_runtime_api.h>

#include "common/host_device.hpp"

#if !defined(__CUDACC__)
#include "emulator/simt_emulator.hpp"
#endif

namespace pagdeploy {

struct LaunchShape {
    int blocks;
    int threads;
    int sharedBytes;
};

template <typename Params>
using Kernel = void (*)(Params);

template <typename Params>
cudaError_t launchKernel(Kernel<Params> kernel, const LaunchShape& shape, cudaStream_t stream,
                         const Params& params) {
    if (shape.blocks == 0) {
        return cudaSuccess;
    }
#if defined(__CUDACC__)
    Params copy = params;
    void* arguments[] = {&copy};
    return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(shape.blocks),
                            dim3(shape.threads), arguments, shape.sharedBytes, stream);
#else
    (void)stream;
    emulator::launch(shape.blocks, shape.threads, shape.sharedBytes, [&] { kernel(params); });
    return cudaSuccess;
#endif
}

// Lets the kernel use that much shared memory and says how many of its blocks one multiprocessor
// holds; 0 if it does not fit. Called when an operation is planned, never when it is launched.
template <typename Params>
cudaError_t residentBlocks(Kernel<Params> kernel, int threads, int sharedBytes, int* blocks) {
    const void* function = reinterpret_cast<const void*>(kernel);
    cudaError_t error = cudaFuncSetAttribute(
        function, cudaFuncAttributeMaxDynamicSharedMemorySize, sharedBytes);
    if (error != cudaSuccess) {
        return error;
    }
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads,
                                                         static_cast<size_t>(sharedBytes));
}

}  // namespace pagdeploy
