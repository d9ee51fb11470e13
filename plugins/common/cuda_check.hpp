// CUDA's error codes as refusals.
#pragma once

#include <cuda_runtime_api.h>

#include "common/check.hpp"

namespace pagdeploy {

inline void checkCuda(cudaError_t error, const char* step) {
    PAG_CHECK(error == cudaSuccess, std::string(step) + ": " + cudaGetErrorString(error));
}

}  // namespace pagdeploy
