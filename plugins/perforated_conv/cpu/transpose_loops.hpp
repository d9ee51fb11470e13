// Turning a matrix, for vectors of PAG_VECTOR_FLOATS floats; included behind kernel_loops.hpp,
// whose rules hold here too.
#pragma once

#include "perforated_conv/cpu/kernel_loops.hpp"

namespace pagdeploy::cpu {
namespace {

// Two vectors as rows of a matrix of 2x2 blocks of `distance` lanes each, whose blocks off the
// diagonal change places: where lane number `lane` of the upper or the lower row comes from.
constexpr int exchangedLane(int distance, bool isLower, int lane) {
    const bool fromSecond = (lane & distance) != 0;
    return lane + (fromSecond ? kWidth - distance : 0) + (isLower ? distance : 0);
}

template <int distance, bool isLower, int... L>
PAG_ALWAYS_INLINE Vector exchanged(Vector a, Vector b, std::integer_sequence<int, L...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, exchangedLane(distance, isLower, L)...);
#else
    typedef int Lanes __attribute__((vector_size(4 * PAG_VECTOR_FLOATS)));
    return __builtin_shuffle(a, b, Lanes{exchangedLane(distance, isLower, L)...});
#endif
}

template <int distance>
PAG_ALWAYS_INLINE void exchange(Vector& a, Vector& b) {
    constexpr auto kEachLane = std::make_integer_sequence<int, kWidth>{};
    const Vector upper = exchanged<distance, false>(a, b, kEachLane);
    b = exchanged<distance, true>(a, b, kEachLane);
    a = upper;
}

// I counts the pairs of rows that are `distance` apart.
template <int distance, int... I>
PAG_ALWAYS_INLINE void exchangeAll(Vector* row, std::integer_sequence<int, I...> pairs) {
    (exchange<distance>(row[I / distance * 2 * distance + I % distance],
                        row[I / distance * 2 * distance + I % distance + distance]),
     ...);
    if constexpr (distance > 1) {
        exchangeAll<distance / 2>(row, pairs);
    }
}

// A square of kWidth rows and columns. R counts the rows.
template <bool bends, int... R>
PAG_ALWAYS_INLINE void transposeSquare(const Transpose& t, const float* from, float* to,
                                       std::integer_sequence<int, R...>) {
    Vector row[kWidth] = {load(from + R * t.fromStride)...};
    if constexpr (bends) {
        ((row[R] = bent(row[R], t.bend)), ...);
    }
    exchangeAll<kWidth / 2>(row, std::make_integer_sequence<int, kWidth / 2>{});
    (store(to + R * t.toStride, row[R]), ...);
}

template <bool bends>
void transposeAll(const Transpose& t) {
    constexpr auto kEachRow = std::make_integer_sequence<int, kWidth>{};
    if (t.rows < kWidth || t.columns < kWidth) {
        for (int r = 0; r < t.rows; ++r) {
            for (int c = 0; c < t.columns; ++c) {
                const float value = t.from[r * t.fromStride + c];
                t.to[c * t.toStride + r] = bends ? bent(value, t.bend) : value;
            }
        }
        return;
    }
    // The last square of a row or column that is no multiple begins early, over the one before.
    for (int r = 0; r < t.rows; r += kWidth) {
        const int row = r + kWidth <= t.rows ? r : t.rows - kWidth;
        for (int c = 0; c < t.columns; c += kWidth) {
            const int column = c + kWidth <= t.columns ? c : t.columns - kWidth;
            transposeSquare<bends>(t, t.from + row * t.fromStride + column,
                                   t.to + column * t.toStride + row, kEachRow);
        }
    }
}

void transpose(const Transpose& t) { t.bends ? transposeAll<true>(t) : transposeAll<false>(t); }

}  // namespace
}  // namespace pagdeploy::cpu
