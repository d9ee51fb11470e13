// The size of an output as arithmetic on the sizes of the inputs, kept as data: TensorRT's
// expression builder and plain integers evaluate the same rule.
#pragma once

#include "common/tensor.hpp"

namespace pagdeploy {

constexpr std::int64_t floorDivide(std::int64_t value, std::int64_t divisor) {
    const std::int64_t quotient = value / divisor;
    return value % divisor != 0 && (value < 0) != (divisor < 0) ? quotient - 1 : quotient;
}

// floor((size of `axis` of `input` + offset) / divisor); the offset alone if `input` is negative.
struct OutputSize {
    int input = -1;
    int axis = 0;
    std::int64_t offset = 0;
    std::int64_t divisor = 1;

    static constexpr OutputSize of(int input, int axis) { return {input, axis, 0, 1}; }
    static constexpr OutputSize constant(std::int64_t value) { return {-1, 0, value, 1}; }
};

struct OutputShape {
    int rank = 0;
    OutputSize d[kMaxRank] = {};
};

// A size that depends on an unknown one is unknown.
inline TensorShape evaluate(const OutputShape& rule, const Tensor* inputs) {
    TensorShape shape;
    shape.rank = rule.rank;
    for (int i = 0; i < rule.rank; ++i) {
        const OutputSize& size = rule.d[i];
        if (size.input < 0) {
            shape.d[i] = size.offset;
            continue;
        }
        const std::int64_t from = inputs[size.input].shape.d[size.axis];
        shape.d[i] = from < 0 ? kUnknownSize : floorDivide(from + size.offset, size.divisor);
    }
    return shape;
}

}  // namespace pagdeploy
