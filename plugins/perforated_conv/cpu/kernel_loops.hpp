// The loops behind an InstructionSet, for vectors of PAG_VECTOR_FLOATS floats.
//
// Each instruction_set_*.cpp includes this file once and is compiled with flags of its own. So
// nothing here may be shared between those files: everything is in an unnamed namespace, and no
// inline function of the standard library is called, of which the linker would keep one copy,
// perhaps the one that this processor cannot run.
//
// The sums of a tile are an array that only constants index, spelled out by fold expressions over
// `I...`. With loops over it GCC keeps the array in memory and stores all of it in every step of
// the depth, which is three times slower (the throughput guard of bench/cpu notices).
#pragma once

#include <cstddef>
#include <utility>

#include "perforated_conv/cpu/instruction_set.hpp"

#define PAG_ALWAYS_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define PAG_UNROLL_DEPTH _Pragma("unroll 4")
#else
#define PAG_UNROLL_DEPTH _Pragma("GCC unroll 4")
#endif

namespace pagdeploy::cpu {
namespace {

constexpr int kWidth = PAG_VECTOR_FLOATS;
constexpr int kVectors = 2;
constexpr int kPanel = kVectors * kWidth;
constexpr int kTileRows = PAG_TILE_ROWS;

typedef float Vector __attribute__((vector_size(4 * PAG_VECTOR_FLOATS)));
typedef float UnalignedVector
    __attribute__((vector_size(4 * PAG_VECTOR_FLOATS), aligned(4), may_alias));

PAG_ALWAYS_INLINE Vector load(const float* from) {
    return *reinterpret_cast<const UnalignedVector*>(from);
}
PAG_ALWAYS_INLINE void store(float* to, Vector value) {
    *reinterpret_cast<UnalignedVector*>(to) = value;
}
PAG_ALWAYS_INLINE Vector splat(float value) { return value - Vector{}; }

// Comparisons are false for NaN, so that it passes. Few activations scale, and a panel of little
// depth has little else to do.
PAG_ALWAYS_INLINE Vector bent(Vector value, const Bend& bend) {
    if (bend.slope != 1.0f) {
        value = value < splat(0.0f) ? value * splat(bend.slope) : value;
    }
    const Vector raised = value < splat(bend.low) ? splat(bend.low) : value;
    return raised > splat(bend.high) ? splat(bend.high) : raised;
}
PAG_ALWAYS_INLINE float bent(float value, const Bend& bend) {
    const float scaled = value < 0.0f ? value * bend.slope : value;
    const float raised = scaled < bend.low ? bend.low : scaled;
    return raised > bend.high ? bend.high : raised;
}

// Channels of a row that are asked for together: two lines of the cache of most processors. Asking
// beyond the end of a row does no harm.
constexpr int kPrefetched = 32;
PAG_ALWAYS_INLINE void prefetch(const float* channels) {
    __builtin_prefetch(channels);
    __builtin_prefetch(channels + kPrefetched / 2);
}

// A panel beyond whose last column the sink's rows may end.
void finishNarrowRow(const TileProduct& p, int row, const float* sum) {
    float* output = p.sink->output[row] + p.firstColumn;
    const float* base = p.sink->base != nullptr ? p.sink->base[row] + p.firstColumn : nullptr;
    for (int column = 0; column < p.columns; ++column) {
        const float value = base != nullptr ? sum[column] + base[column] : sum[column];
        output[column] = bent(value, p.sink->bend);
    }
}

template <int row, int... V>
PAG_ALWAYS_INLINE void finishRow(const TileProduct& p, const Vector* sum,
                                 std::integer_sequence<int, V...>) {
    float* output = p.sink->output[row] + p.firstColumn;
    if (p.sink->base != nullptr) {
        const float* base = p.sink->base[row] + p.firstColumn;
        (store(output + V * kWidth, bent(sum[V] + load(base + V * kWidth), p.sink->bend)), ...);
    } else {
        (store(output + V * kWidth, bent(sum[V], p.sink->bend)), ...);
    }
}

// R counts the rows, V the vectors of a row, I the sums: row I / kVectors, vector I % kVectors.
template <int... R, int... V, int... I>
PAG_ALWAYS_INLINE void multiplyRows(const TileProduct& p, std::integer_sequence<int, R...>,
                                    std::integer_sequence<int, V...> vectors,
                                    std::integer_sequence<int, I...>) {
    constexpr int kRows = sizeof...(R);
    if (p.sink != nullptr && p.sink->base != nullptr && p.columns == kPanel) {
        // Rows of the base lie anywhere in the map: they arrive while the products are summed.
        (__builtin_prefetch(p.sink->base[I / kVectors] + p.firstColumn + (I % kVectors) * kWidth),
         ...);
    }
    Vector sum[kRows * kVectors];
    if (p.bias != nullptr) {
        ((sum[I] = load(p.bias + (I % kVectors) * kWidth)), ...);
    } else {
        ((sum[I] = load(p.partial + I * kWidth)), ...);
    }
    for (int tap = 0; tap < p.taps; ++tap) {
        const float* const* input = p.input + tap * kRows;
        const float* const row[kRows] = {(input[R] + p.inputOffset)...};
        const float* weights = p.weights + tap * p.tapStride;
        const int step = p.next != nullptr ? kPrefetched : p.depth;
        for (int first = 0; first < p.depth; first += step) {
            const int end = first + step < p.depth ? first + step : p.depth;
            if (p.next != nullptr) {
                (prefetch(p.next[tap * kRows + R] + p.inputOffset + first), ...);
            }
            PAG_UNROLL_DEPTH
            for (int k = first; k < end; ++k) {
                const Vector weight[kVectors] = {load(weights + V * kWidth)...};
                ((sum[I] += splat(row[I / kVectors][k]) * weight[I % kVectors]), ...);
                weights += kPanel;
            }
        }
    }
    if (p.sink == nullptr) {
        (store(p.partial + I * kWidth, sum[I]), ...);
    } else if (p.columns == kPanel) {
        (finishRow<R>(p, sum + R * kVectors, vectors), ...);
    } else {
        float sums[kRows * kPanel];
        (store(sums + I * kWidth, sum[I]), ...);
        (finishNarrowRow(p, R, sums + R * kPanel), ...);
    }
}

template <int rows>
void multiplySome(const TileProduct& p) {
    multiplyRows(p, std::make_integer_sequence<int, rows>{},
                 std::make_integer_sequence<int, kVectors>{},
                 std::make_integer_sequence<int, rows * kVectors>{});
}

template <int... R>
PAG_ALWAYS_INLINE void multiplyAny(const TileProduct& p, std::integer_sequence<int, R...>) {
    constexpr void (*kByRows[])(const TileProduct&) = {multiplySome<R + 1>...};
    kByRows[p.rows - 1](p);
}

void multiply(const TileProduct& p) {
    multiplyAny(p, std::make_integer_sequence<int, kTileRows>{});
}

// Some rows times some vectors of channels: rows share the weights, and many sums hide the latency
// of each. V counts the vectors, R the rows, I the sums as above.
template <int... R, int... V, int... I>
PAG_ALWAYS_INLINE void depthwiseBlock(const DepthwiseRows& p, int firstRow, int channel,
                                      std::integer_sequence<int, R...>,
                                      std::integer_sequence<int, V...>,
                                      std::integer_sequence<int, I...>) {
    constexpr int kRows = sizeof...(R);
    constexpr int kAcross = sizeof...(V);
    Vector sum[] = {load(p.bias + channel + (I % kAcross) * kWidth)...};
    const float* const* input = p.input + static_cast<std::ptrdiff_t>(firstRow) * p.taps;
    const float* weights = p.weights + channel;
    for (int tap = 0; tap < p.taps; ++tap, input += kRows, weights += p.channels) {
        const float* const from[] = {(input[R] + channel)...};
        const Vector weight[] = {load(weights + V * kWidth)...};
        ((sum[I] += load(from[I / kAcross] + (I % kAcross) * kWidth) * weight[I % kAcross]), ...);
    }
    if (p.sink.base != nullptr) {
        ((sum[I] += load(p.sink.base[firstRow + I / kAcross] + channel + (I % kAcross) * kWidth)),
         ...);
    }
    (store(p.sink.output[firstRow + I / kAcross] + channel + (I % kAcross) * kWidth,
           bent(sum[I], p.sink.bend)),
     ...);
}

// All channels of a group of rows.
template <int rows>
void depthwiseGroup(const DepthwiseRows& p, int firstRow) {
    constexpr auto kEachRow = std::make_integer_sequence<int, rows>{};
    constexpr auto kEachVector = std::make_integer_sequence<int, kVectors>{};
    int c = p.firstChannel;
    for (; c + kVectors * kWidth <= p.endChannel; c += kVectors * kWidth) {
        depthwiseBlock(p, firstRow, c, kEachRow, kEachVector,
                       std::make_integer_sequence<int, rows * kVectors>{});
    }
    for (; c + kWidth <= p.endChannel; c += kWidth) {
        depthwiseBlock(p, firstRow, c, kEachRow, std::make_integer_sequence<int, 1>{}, kEachRow);
    }
    for (; c < p.endChannel; ++c) {
        for (int r = 0; r < rows; ++r) {
            const float* const* input =
                p.input + static_cast<std::ptrdiff_t>(firstRow) * p.taps + r;
            const float* base = p.sink.base != nullptr ? p.sink.base[firstRow + r] : nullptr;
            float sum = p.bias[c];
            for (int tap = 0; tap < p.taps; ++tap) {
                sum += input[static_cast<std::ptrdiff_t>(tap) * rows][c] *
                       p.weights[static_cast<std::ptrdiff_t>(tap) * p.channels + c];
            }
            sum += base != nullptr ? base[c] : 0.0f;
            p.sink.output[firstRow + r][c] = bent(sum, p.sink.bend);
        }
    }
}

void depthwise(const DepthwiseRows& p) {
    static_assert(kDepthwiseRows == 4, "one case for each remainder");
    int r = 0;
    for (; r + kDepthwiseRows <= p.rows; r += kDepthwiseRows) {
        depthwiseGroup<kDepthwiseRows>(p, r);
    }
    switch (p.rows - r) {
        case 3:
            return depthwiseGroup<3>(p, r);
        case 2:
            return depthwiseGroup<2>(p, r);
        case 1:
            return depthwiseGroup<1>(p, r);
        default:
            return;
    }
}

PAG_ALWAYS_INLINE float total(Vector value) {
    float sum = 0.0f;
    for (int lane = 0; lane < kWidth; ++lane) {
        sum += value[lane];
    }
    return sum;
}

// Some rows times one or two columns. R counts the rows, C the columns, I the sums: row
// I / columns, column I % columns.
template <int... R, int... C, int... I>
PAG_ALWAYS_INLINE void narrowBlock(const NarrowRows& p, int firstRow, int firstColumn,
                                   std::integer_sequence<int, R...>,
                                   std::integer_sequence<int, C...>,
                                   std::integer_sequence<int, I...>) {
    constexpr int kRows = sizeof...(R);
    constexpr int kColumns = sizeof...(C);
    Vector sum[] = {(static_cast<void>(I), Vector{})...};
    float rest[] = {p.bias[firstColumn + I % kColumns]...};
    const float* const* input = p.input + static_cast<std::ptrdiff_t>(firstRow) * p.taps;
    const std::ptrdiff_t column = static_cast<std::ptrdiff_t>(p.taps) * p.depth;
    const float* weights = p.weights + firstColumn * column;
    for (int tap = 0; tap < p.taps; ++tap, input += kRows, weights += p.depth) {
        const float* const row[] = {input[R]...};
        int k = 0;
        for (; k + kWidth <= p.depth; k += kWidth) {
            const Vector weight[] = {load(weights + C * column + k)...};
            const Vector value[] = {load(row[R] + k)...};
            ((sum[I] += value[I / kColumns] * weight[I % kColumns]), ...);
        }
        for (; k < p.depth; ++k) {
            ((rest[I] += row[I / kColumns][k] * weights[(I % kColumns) * column + k]), ...);
        }
    }
    ((rest[I] += total(sum[I])), ...);
    if (p.sink.base != nullptr) {
        ((rest[I] += p.sink.base[firstRow + I / kColumns][firstColumn + I % kColumns]), ...);
    }
    ((p.sink.output[firstRow + I / kColumns][firstColumn + I % kColumns] =
          bent(rest[I], p.sink.bend)),
     ...);
}

template <int rows>
void narrowGroup(const NarrowRows& p, int firstRow) {
    constexpr auto kEachRow = std::make_integer_sequence<int, rows>{};
    int column = 0;
    for (; column + 2 <= p.columns; column += 2) {
        narrowBlock(p, firstRow, column, kEachRow, std::make_integer_sequence<int, 2>{},
                    std::make_integer_sequence<int, rows * 2>{});
    }
    if (column < p.columns) {
        narrowBlock(p, firstRow, column, kEachRow, std::make_integer_sequence<int, 1>{}, kEachRow);
    }
}

void narrow(const NarrowRows& p) {
    static_assert(kNarrowRows == 4, "one case for each remainder");
    int r = 0;
    for (; r + kNarrowRows <= p.rows; r += kNarrowRows) {
        narrowGroup<kNarrowRows>(p, r);
    }
    switch (p.rows - r) {
        case 3:
            return narrowGroup<3>(p, r);
        case 2:
            return narrowGroup<2>(p, r);
        case 1:
            return narrowGroup<1>(p, r);
        default:
            return;
    }
}

}  // namespace
}  // namespace pagdeploy::cpu
