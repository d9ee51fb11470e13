// The few names of the CUDA runtime that the launchers use, answered by the emulator.
#pragma once

#include <cstddef>

#include "emulator/simt_emulator.hpp"

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorMisalignedAddress = 716,
    cudaErrorNotSupported = 801
};
using cudaStream_t = struct EmulatedStream*;
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};

inline cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    const auto& device = pagdeploy::emulator::options;
    switch (attribute) {
        case cudaDevAttrMultiProcessorCount:
            *value = device.multiprocessors;
            break;
        case cudaDevAttrComputeCapabilityMajor:
            *value = device.computeCapability / 10;
            break;
        case cudaDevAttrComputeCapabilityMinor:
            *value = device.computeCapability % 10;
            break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin:
            *value = device.sharedBytesPerBlock;
            break;
    }
    return cudaSuccess;
}

inline cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int bytes) {
    const bool fits = bytes <= pagdeploy::emulator::options.sharedBytesPerBlock;
    return fits ? cudaSuccess : cudaErrorInvalidValue;
}

inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int,
                                                                 std::size_t) {
    *blocks = 1;
    return cudaSuccess;
}
