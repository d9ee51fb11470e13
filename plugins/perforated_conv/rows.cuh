// The rows of a tile, and what becomes of them behind the product: bias, base, activation, scatter;
// and the pixels that no branch computes.
#pragma once

#include "common/ptx.hpp"
#include "common/vector_access.hpp"
#include "perforated_conv/params.hpp"

namespace pagdeploy {

// A tile's rows in shared memory, behind the buffers of the product.
struct RowTable {
    int* source;  // [tap][row] input pixel, -1 for zero
    int* target;  // [row] output pixel
    // [row] the branch's value where the row is to be written; lands with the product's operands.
    int* decision;
    unsigned* taps;  // taps that some row has a source for

    PAG_HD static constexpr int bytes(int taps, int rows) { return (taps + 2) * rows * 4 + 16; }

    PAG_DEVICE static RowTable at(unsigned char* shared, int taps, int rows) {
        int* const source = reinterpret_cast<int*>(shared);
        int* const target = source + taps * rows;
        int* const decision = target + rows;
        return {source, target, decision, reinterpret_cast<unsigned*>(decision + rows)};
    }

    template <int kRows, int kThreads>
    PAG_DEVICE void build(const ConvParams& params, const Tile& tile) const {
        static_assert(kThreads % kRows == 0, "each thread looks after one row");
        const int thread = int(threadIdx.x);
        if (thread == 0) {
            *taps = 0;
        }
        __syncthreads();  // also: nobody reads the previous tile's table any more
        const int row = thread % kRows;
        const bool used = row < tile.rows;
        const bool walks = params.walksMap(tile.branch);
        int pixel = -1;
        PixelPosition at{};
        if (used) {
            pixel = tile.firstRow + row;
            if (!walks) {
                pixel = params.pixels[std::size_t(tile.branch) * params.capacity + pixel];
            }
            at = positionOf(params.geometry.output, pixel);
        }
        unsigned seen = 0;
        const int allTaps = params.geometry.taps();
        for (int tap = thread / kRows; tap < allTaps; tap += kThreads / kRows) {
            const int from =
                used ? params.geometry.tapSource(params.branch[tile.branch], at, tap) : -1;
            source[tap * kRows + row] = from;
            seen |= from >= 0 ? 1u << tap : 0u;
        }
        if (thread < kRows) {
            target[row] = pixel;
            // What a walk computes at an inactive pixel stays in that pixel's row. Nobody waits for
            // the decision before the row is written.
            if (used && walks && params.selection != nullptr) {
                copyWordAsync(decision + row,
                              params.selection + pixel / params.pixelsPerDecision);
            } else {
                decision[row] = params.values[tile.branch];
            }
        }
        // Most threads find nothing new; asking first saves the atomic operation.
        if ((seen & ~*static_cast<volatile unsigned*>(taps)) != 0) {
            atomicOr(taps, seen);
        }
        __syncthreads();
    }
};

// From sums of the product, kStride floats a row in shared memory, to the output: eight channels of
// one row per thread, one rounding at the end. Rows of inactive pixels are left out.
template <typename Element, int kColumns, int kStride, int kThreads>
PAG_DEVICE void writeRows(const ConvParams& params, const Tile& tile, const float* sums,
                          const RowTable& rows) {
    constexpr int kVectors = kColumns / kChannelsPerVector;
    const int channels = params.geometry.outputsPerGroup();
    for (int i = int(threadIdx.x); i < tile.rows * kVectors; i += kThreads) {
        const int row = i / kVectors;
        const int column = (i - row * kVectors) * kChannelsPerVector;
        if (tile.firstColumn + column >= channels ||
            rows.decision[row] != params.values[tile.branch]) {
            continue;
        }
        const int channel = tile.group * channels + tile.firstColumn + column;
        const std::size_t pixel = std::size_t(rows.target[row]);
        float values[kChannelsPerVector];
        loadChannels(values, sums + row * kStride + column);
        Element bias[kChannelsPerVector];
        loadChannels(bias, static_cast<const Element*>(params.bias[tile.branch]) + channel);
        PAG_UNROLL
        for (int c = 0; c < kChannelsPerVector; ++c) {
            values[c] += toFloat(bias[c]);
        }
        if (params.mode == kModeAdd) {
            const auto* const base = static_cast<const Element*>(params.base);
            if (params.baseIsOneValue != 0) {
                const float value = toFloat(*base);
                PAG_UNROLL
                for (int c = 0; c < kChannelsPerVector; ++c) {
                    values[c] += value;
                }
            } else {
                Element shown[kChannelsPerVector];
                loadChannels(shown, base + pixel * params.basePitch + channel);
                PAG_UNROLL
                for (int c = 0; c < kChannelsPerVector; ++c) {
                    values[c] += toFloat(shown[c]);
                }
            }
        }
        Element result[kChannelsPerVector];
        PAG_UNROLL
        for (int c = 0; c < kChannelsPerVector; ++c) {
            result[c] = fromFloat<Element>(activate(values[c], params.activation, params.alpha));
        }
        storeChannels(static_cast<Element*>(params.output) + pixel * params.outputPitch + channel,
                      result);
    }
}

// kFillRows pixels of the last list, beginning with row `firstRow`, show their base.
template <typename Element, int kThreads>
PAG_DEVICE void fillRows(const ConvParams& params, int firstRow, int rowsInList) {
    const int vectors = params.geometry.outputChannels / kChannelsPerVector;
    const int rows = smaller(rowsInList - firstRow, kFillRows);
    const auto* const base = static_cast<const Element*>(params.base);
    for (int i = int(threadIdx.x); i < rows * vectors; i += kThreads) {
        const int row = i / vectors;
        const int channel = (i - row * vectors) * kChannelsPerVector;
        const std::size_t pixel =
            std::size_t(params.pixelOfRow(params.branches, rowsInList, firstRow + row));
        Element values[kChannelsPerVector];
        if (params.baseIsOneValue != 0) {
            PAG_UNROLL
            for (int c = 0; c < kChannelsPerVector; ++c) {
                values[c] = *base;
            }
        } else {
            loadChannels(values, base + pixel * params.basePitch + channel);
        }
        PAG_UNROLL
        for (int c = 0; c < kChannelsPerVector; ++c) {
            values[c] = activatedBase(params, values[c]);
        }
        storeChannels(static_cast<Element*>(params.output) + pixel * params.outputPitch + channel,
                      values);
    }
}

}  // namespace pagdeploy
