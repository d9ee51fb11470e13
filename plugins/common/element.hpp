// The element types of tensors, as bit patterns, and their conversion to and from float.
#pragma once

#include "common/host_device.hpp"

#include <cstring>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace pagdeploy {

enum class DataType : int { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2 };

struct Half {
    std::uint16_t bits;
};

struct BFloat16 {
    std::uint16_t bits;
};

PAG_HD constexpr int sizeOf(DataType type) { return type == DataType::kFloat32 ? 4 : 2; }

template <typename Element>
struct ElementTraits;
template <>
struct ElementTraits<float> {
    static constexpr DataType kType = DataType::kFloat32;
};
template <>
struct ElementTraits<Half> {
    static constexpr DataType kType = DataType::kFloat16;
};
template <>
struct ElementTraits<BFloat16> {
    static constexpr DataType kType = DataType::kBFloat16;
};

PAG_HD std::uint32_t bitsOf(float value) {
    std::uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

PAG_HD float floatOf(std::uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

PAG_HD float toFloat(float value) { return value; }
PAG_HD float toFloat(BFloat16 value) { return floatOf(std::uint32_t(value.bits) << 16); }

template <typename Element>
PAG_HD Element fromFloat(float value);

template <>
PAG_HD float fromFloat<float>(float value) {
    return value;
}

// Rounds to nearest even; a NaN stays a NaN, which plain integer rounding would not promise.
template <>
PAG_HD BFloat16 fromFloat<BFloat16>(float value) {
    const std::uint32_t bits = bitsOf(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
        return {std::uint16_t((bits >> 16) | 0x40u)};
    }
    return {std::uint16_t((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

#if defined(__CUDACC__)

PAG_HD float toFloat(Half value) { return __half2float(__ushort_as_half(value.bits)); }

template <>
PAG_HD Half fromFloat<Half>(float value) {
    return {__half_as_ushort(__float2half_rn(value))};
}

#else

inline float toFloat(Half value) {
    const std::uint32_t sign = std::uint32_t(value.bits & 0x8000u) << 16;
    const std::uint32_t magnitude = value.bits & 0x7FFFu;
    if (magnitude >= 0x7C00u) {  // Inf and NaN
        return floatOf(sign | 0x7F800000u | ((magnitude & 0x3FFu) << 13));
    }
    if (magnitude < 0x400u) {  // zero and subnormal numbers: multiples of 2^-24
        const float small = float(magnitude) * (1.0f / 16777216.0f);
        return floatOf(sign | bitsOf(small));
    }
    return floatOf(sign | ((magnitude + 0x1C000u) << 13));
}

template <>
inline Half fromFloat<Half>(float value) {
    const std::uint32_t bits = bitsOf(value);
    const auto sign = std::uint16_t((bits >> 16) & 0x8000u);
    const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) {
        return {std::uint16_t(sign | 0x7E00u)};
    }
    if (magnitude >= 0x477FF000u) {  // rounds to 65536 or more
        return {std::uint16_t(sign | 0x7C00u)};
    }
    if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 makes the float unit round for us
        const float shifted = floatOf(magnitude) + 0.5f;
        return {std::uint16_t(sign | (bitsOf(shifted) - 0x3F000000u))};
    }
    const std::uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
    return {std::uint16_t(sign | ((rounded >> 13) - 0x1C000u))};
}

#endif

// The rounding that tensor cores expect of a float before a TF32 product: nearest, ties away.
PAG_HD float roundToTf32(float value) {
    const std::uint32_t bits = bitsOf(value);
    if ((bits & 0x7F800000u) == 0x7F800000u) {
        return value;  // Inf and NaN: a carry would turn one into the other
    }
    return floatOf((bits + 0x1000u) & ~0x1FFFu);
}

}  // namespace pagdeploy
