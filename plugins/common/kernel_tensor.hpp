// Tensors in the kernels' terms.
#pragma once

#include <limits>

#include "common/check.hpp"
#include "common/element.hpp"
#include "common/pixel_order.hpp"
#include "common/tensor.hpp"

namespace pagdeploy {

inline DataType elementType(TensorType type) {
    PAG_CHECK(isFloat(type), "the kernels compute in float32, float16 and bfloat16 only");
    return type == TensorType::kFloat32   ? DataType::kFloat32
           : type == TensorType::kFloat16 ? DataType::kFloat16
                                          : DataType::kBFloat16;
}

inline int kernelSize(std::int64_t size) {
    PAG_CHECK(size >= 0 && size <= std::numeric_limits<int>::max(),
              "a size of " + std::to_string(size) + " is beyond the kernels");
    return static_cast<int>(size);
}

// The pixels of an (N, C, H, W) tensor.
inline Grid gridOf(const TensorShape& shape) {
    return {kernelSize(shape.d[0]), kernelSize(shape.d[2]), kernelSize(shape.d[3])};
}

// Elements from one pixel of a channels-last tensor to the next.
inline int pitchOf(const Tensor& tensor) {
    const int channels = kernelSize(tensor.shape.d[1]);
    return tensor.layout == TensorLayout::kNhwc8 ? roundUp(channels, 8) : channels;
}

}  // namespace pagdeploy
