// The loop behind a QuantizedSet, for vectors of PAG_LANES 32-bit lanes.
//
// Each quantized_set_*.cpp that includes this file once has defined, in pagdeploy::cpu and an
// unnamed namespace of its own,
//
//     Rows    spread(std::uint32_t)               four bytes of a row, for every lane
//     Columns columnsAt(const std::int8_t*)       four bytes of each column
//     Ints    accumulate(Ints, Rows, Columns)     the sum of the four products, added
//     Ints    widened(const std::uint8_t*)        a byte in every lane
//     void    storeNarrow(std::uint8_t*, Ints)    the lowest byte of every lane, all of 0 .. 255
//
// As in kernel_loops.hpp, nothing here may be shared between those files, and sums are an array
// that only constants index. These files are compiled without fused products and sums: a float is
// rounded as often as onnxruntime rounds it, so that the bytes are the same.
#pragma once

#include <utility>

#include "perforated_conv/cpu/quantized_vectors.hpp"

namespace pagdeploy::cpu {
namespace {

constexpr int kVectors = 2;
constexpr int kPanel = kVectors * kLanes;
constexpr int kTileRows = PAG_TILE_ROWS;

PAG_ALWAYS_INLINE std::uint32_t quadAt(const std::uint8_t* from) {
    std::uint32_t quad;
    __builtin_memcpy(&quad, from, sizeof(quad));
    return quad;
}

// The last bytes of a row, behind which the map may end; the weights there are zero.
PAG_ALWAYS_INLINE std::uint32_t quadAt(const std::uint8_t* from, int count) {
    std::uint8_t bytes[kQuad] = {};
    for (int i = 0; i < count; ++i) {
        bytes[i] = from[i];
    }
    return quadAt(bytes);
}

// Half to even, of what lies within 2^22: adding this leaves no room for a fraction.
constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23

PAG_ALWAYS_INLINE Floats clipped(Floats value, const QuantizedSink& sink) {
    const Floats raised = value < sink.low ? Floats{} + sink.low : value;
    return raised > sink.high ? Floats{} + sink.high : raised;
}

// A vector of c, with the base if there is one.
PAG_ALWAYS_INLINE Floats valueOf(Ints sum, const float* scale, const QuantizedSink& sink,
                                 const std::uint8_t* base) {
    const Floats value = toFloats(sum) * loadFloats(scale);
    if (base == nullptr) {
        return value;
    }
    const Ints steps = widened(base) - static_cast<std::uint32_t>(sink.baseUnits.zero);
    return value + toFloats(steps) * sink.baseUnits.step;
}

PAG_ALWAYS_INLINE void finishFloats(Floats value, const QuantizedSink& sink, float* to) {
    storeFloats(to, clipped(value, sink));
}

PAG_ALWAYS_INLINE void finishBytes(Floats value, const QuantizedSink& sink, std::uint8_t* to) {
    if (sink.base != nullptr) {
        value /= sink.units.step;
    }
    const Floats rounded = clipped(value, sink) + kRounder;
    const float rounder = kRounder;
    Ints steps;
    std::uint32_t origin;
    __builtin_memcpy(&steps, &rounded, sizeof(steps));
    __builtin_memcpy(&origin, &rounder, sizeof(origin));
    storeNarrow(to, steps - (origin - static_cast<std::uint32_t>(sink.units.zero)));
}

// A panel beyond whose last column the sink's rows may end.
void finishNarrowRow(const QuantizedProduct& p, int row, const Ints* sums) {
    const QuantizedSink& sink = *p.sink;
    std::uint8_t base[kPanel] = {};
    std::uint8_t bytes[kPanel];
    float floats[kPanel];
    for (int column = 0; sink.base != nullptr && column < p.columns; ++column) {
        base[column] = sink.base[row][p.firstColumn + column];
    }
    for (int v = 0; v < kVectors; ++v) {
        const Floats value = valueOf(sums[v], p.scale + v * kLanes, sink,
                                     sink.base != nullptr ? base + v * kLanes : nullptr);
        finishFloats(value, sink, floats + v * kLanes);
        finishBytes(value, sink, bytes + v * kLanes);
    }
    for (int column = 0; column < p.columns; ++column) {
        if (sink.bytes != nullptr) {
            sink.bytes[row][p.firstColumn + column] = bytes[column];
        } else {
            sink.floats[row][p.firstColumn + column] = floats[column];
        }
    }
}

template <int row, int... V>
PAG_ALWAYS_INLINE void finishRow(const QuantizedProduct& p, const Ints* sums,
                                 std::integer_sequence<int, V...>) {
    const QuantizedSink& sink = *p.sink;
    const std::uint8_t* base = sink.base != nullptr ? sink.base[row] + p.firstColumn : nullptr;
    const Floats value[] = {valueOf(sums[V], p.scale + V * kLanes, sink,
                                    base != nullptr ? base + V * kLanes : nullptr)...};
    if (sink.bytes != nullptr) {
        (finishBytes(value[V], sink, sink.bytes[row] + p.firstColumn + V * kLanes), ...);
    } else {
        (finishFloats(value[V], sink, sink.floats[row] + p.firstColumn + V * kLanes), ...);
    }
}

// R counts the rows, V the vectors of a row, I the sums: row I / kVectors, vector I % kVectors.
template <int... R, int... V, int... I>
PAG_ALWAYS_INLINE void multiplyRows(const QuantizedProduct& p, std::integer_sequence<int, R...>,
                                    std::integer_sequence<int, V...> vectors,
                                    std::integer_sequence<int, I...>) {
    constexpr int kRows = sizeof...(R);
    const int quads = p.depth / kQuad;
    const int rest = p.depth % kQuad;
    Ints sum[kRows * kVectors] = {loadInts(p.bias + (I % kVectors) * kLanes)...};
    const std::int8_t* weights = p.weights;
    for (int tap = 0; tap < p.taps; ++tap) {
        const std::uint8_t* const* input = p.input + tap * kRows;
        const std::uint8_t* const row[kRows] = {input[R]...};
        PAG_UNROLL_DEPTH
        for (int k = 0; k < quads; ++k) {
            const Columns column[kVectors] = {columnsAt(weights + V * kLanes * kQuad)...};
            ((sum[I] = accumulate(sum[I], spread(quadAt(row[I / kVectors] + k * kQuad)),
                                  column[I % kVectors])),
             ...);
            weights += kPanel * kQuad;
        }
        if (rest > 0) {
            const Columns column[kVectors] = {columnsAt(weights + V * kLanes * kQuad)...};
            ((sum[I] = accumulate(sum[I],
                                  spread(quadAt(row[I / kVectors] + quads * kQuad, rest)),
                                  column[I % kVectors])),
             ...);
            weights += kPanel * kQuad;
        }
    }
    if (p.columns == kPanel) {
        (finishRow<R>(p, sum + R * kVectors, vectors), ...);
    } else {
        const Ints sums[] = {sum[I]...};
        (finishNarrowRow(p, R, sums + R * kVectors), ...);
    }
}

template <int rows>
void multiplySome(const QuantizedProduct& p) {
    multiplyRows(p, std::make_integer_sequence<int, rows>{},
                 std::make_integer_sequence<int, kVectors>{},
                 std::make_integer_sequence<int, rows * kVectors>{});
}

template <int... R>
PAG_ALWAYS_INLINE void multiplyAny(const QuantizedProduct& p, std::integer_sequence<int, R...>) {
    constexpr void (*kByRows[])(const QuantizedProduct&) = {multiplySome<R + 1>...};
    kByRows[p.rows - 1](p);
}

void multiply(const QuantizedProduct& p) {
    multiplyAny(p, std::make_integer_sequence<int, kTileRows>{});
}

}  // namespace
}  // namespace pagdeploy::cpu
