// What lets one source be a CUDA kernel under nvcc and plain C++ everywhere else.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define PAG_HD __host__ __device__ __forceinline__
#define PAG_DEVICE __device__ __forceinline__
#define PAG_UNROLL _Pragma("unroll")
#else
#define PAG_HD inline
#define PAG_DEVICE inline
#define PAG_UNROLL
#endif

namespace pagdeploy {

// The largest number of branches that one launch serves: K of a gate is at most this.
constexpr int kMaxBranches = 16;

template <typename Integer>
PAG_HD constexpr Integer ceilDivide(Integer value, Integer divisor) {
    return (value + divisor - 1) / divisor;
}

template <typename Integer>
PAG_HD constexpr Integer roundUp(Integer value, Integer multiple) {
    return ceilDivide(value, multiple) * multiple;
}

template <typename Number>
PAG_HD constexpr Number smaller(Number a, Number b) {
    return b < a ? b : a;
}

template <typename Number>
PAG_HD constexpr Number larger(Number a, Number b) {
    return a < b ? b : a;
}

}  // namespace pagdeploy
