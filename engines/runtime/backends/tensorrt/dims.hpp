// Sizes as TensorRT has them.
#pragma once

#include <NvInferRuntime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "dtype.hpp"

namespace pagdeploy::runtime {

// Whether every size is there; -1 stands for what only the run tells.
inline bool isKnown(const nvinfer1::Dims& dims) {
    return dims.nbDims >= 0 &&
           std::all_of(dims.d, dims.d + dims.nbDims, [](auto size) { return size >= 0; });
}

// Of a tensor whose sizes are known.
inline std::size_t bytesOf(const nvinfer1::Dims& dims, std::int32_t dtype) {
    std::size_t bytes = elementBytes(dtype);
    for (int axis = 0; axis < dims.nbDims; ++axis) {
        bytes *= static_cast<std::size_t>(dims.d[axis]);
    }
    return bytes;
}

}  // namespace pagdeploy::runtime
