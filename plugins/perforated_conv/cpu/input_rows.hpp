// Where the rows of X lie that the rows of a tile read.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "perforated_conv/cpu/shape.hpp"
#include "perforated_conv/cpu/tiles.hpp"

namespace pagdeploy::cpu {

template <class Element>
struct InputRows {
    const Element* x;            // (N, H, W, C)
    const Element* outside;      // a row that taps outside of the map read
    const std::int32_t* pixels;  // of the whole list; null if it has all of them
    std::size_t firstRow;        // of the list
    int rows;
    int groupRows;               // of each group but the last

    // Fills `to` with groups of rows, and in each group [tap][row].
    void fill(const KernelShape& shape, const ConvGeometry& geometry, const Element** to) const;
};

template <class Element>
void InputRows<Element>::fill(const KernelShape& shape, const ConvGeometry& geometry,
                              const Element** to) const {
    static thread_local std::vector<std::ptrdiff_t> offsets;  // of the taps, from the first one
    const Grid& map = geometry.input;
    const BranchGeometry& reach = shape.reach;
    const std::ptrdiff_t channels = shape.inputChannels;
    const int taps = shape.taps();
    offsets.resize(static_cast<std::size_t>(taps));
    for (int tap = 0; tap < taps; ++tap) {
        const std::ptrdiff_t y = tap / shape.width * reach.dilationY;
        offsets[tap] = (y * map.width + tap % shape.width * reach.dilationX) * channels;
    }
    const int lastTapY = (shape.height - 1) * reach.dilationY;
    const int lastTapX = (shape.width - 1) * reach.dilationX;
    AscendingPixels ascending(geometry.output, pixels, firstRow);
    for (int first = 0; first < rows; first += groupRows) {
        const int count = std::min(groupRows, rows - first);
        for (int r = 0; r < count; ++r) {
            const PixelPosition at = ascending.next();
            const int top = at.y * shape.strideY - reach.padTop;
            const int left = at.x * shape.strideX - reach.padLeft;
            const std::ptrdiff_t line = static_cast<std::ptrdiff_t>(at.image) * map.height + top;
            const std::ptrdiff_t corner = (line * map.width + left) * channels;
            const bool inside = top >= 0 && left >= 0 && top + lastTapY < map.height &&
                                left + lastTapX < map.width;
            const Element** pointer = to + r;
            if (inside) {
                for (int tap = 0; tap < taps; ++tap, pointer += count) {
                    *pointer = x + (corner + offsets[tap]);
                }
                continue;
            }
            for (int tap = 0; tap < taps; ++tap, pointer += count) {
                const int tapY = top + tap / shape.width * reach.dilationY;
                const int tapX = left + tap % shape.width * reach.dilationX;
                const bool reads = tapY >= 0 && tapY < map.height && tapX >= 0 && tapX < map.width;
                *pointer = reads ? x + (corner + offsets[tap]) : outside;
            }
        }
        to += static_cast<std::size_t>(count) * taps;
    }
}

}  // namespace pagdeploy::cpu
