// Vectors of PAG_LANES 32-bit lanes, for the files that include quantized_loops.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "perforated_conv/cpu/quantized_set.hpp"

#define PAG_ALWAYS_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define PAG_UNROLL_DEPTH _Pragma("unroll 2")
#else
#define PAG_UNROLL_DEPTH _Pragma("GCC unroll 2")
#endif

namespace pagdeploy::cpu {
namespace {

constexpr int kLanes = PAG_LANES;

// Unsigned, so that sums wrap instead of being undefined.
typedef std::uint32_t Ints __attribute__((vector_size(4 * PAG_LANES)));
typedef std::int32_t SignedInts __attribute__((vector_size(4 * PAG_LANES)));
typedef float Floats __attribute__((vector_size(4 * PAG_LANES)));

template <typename Vector, typename Element>
PAG_ALWAYS_INLINE Vector loadAs(const Element* from) {
    Vector value;
    __builtin_memcpy(&value, from, sizeof(value));
    return value;
}

PAG_ALWAYS_INLINE Ints loadInts(const std::int32_t* from) { return loadAs<Ints>(from); }
PAG_ALWAYS_INLINE Floats loadFloats(const float* from) { return loadAs<Floats>(from); }
PAG_ALWAYS_INLINE void storeFloats(float* to, Floats value) {
    __builtin_memcpy(to, &value, sizeof(value));
}
PAG_ALWAYS_INLINE Floats toFloats(Ints value) {
    return __builtin_convertvector(reinterpret_cast<SignedInts>(value), Floats);
}

}  // namespace
}  // namespace pagdeploy::cpu
