// The pixels of a batch of maps, and the order in which lists of them are written.
#pragma once

#include "common/host_device.hpp"

namespace pagdeploy {

// A batch of maps; pixel (n, y, x) has the index (n * height + y) * width + x.
struct Grid {
    int images;
    int height;
    int width;

    PAG_HD int pixels() const { return images * height * width; }
};

struct PixelPosition {
    int image;
    int y;
    int x;
};

PAG_HD PixelPosition positionOf(const Grid& grid, int pixel) {
    const int row = pixel / grid.width;
    const int image = row / grid.height;
    return {image, row - image * grid.height, pixel - row * grid.width};
}

// Lists are written slot by slot. Slots run through the pixels of one dilation phase
// (y mod phase, x mod phase) before those of the next, because the taps of a dilated convolution
// stay within their phase; and within a phase through blocks of 2^blockLog2 squared pixels, so
// that the taps of neighbouring rows fall on a small patch that stays in the L1 cache. With
// phase 1 and blockLog2 0 the order is the raster. Order never changes numbers, only locality.
struct PixelOrder {
    Grid grid;
    int blockLog2;
    int phase;

    PAG_HD int blocksY() const { return blocksAlong(grid.height); }
    PAG_HD int blocksX() const { return blocksAlong(grid.width); }
    PAG_HD bool raster() const { return blockLog2 == 0 && phase == 1; }

    // More than pixels() where the map's edges are ragged.
    PAG_HD long long slots() const {
        const long long blocks = (long long)grid.images * phase * phase * blocksY() * blocksX();
        return blocks << (2 * blockLog2);
    }

    // The pixel of a slot, or -1 for a slot beyond a ragged edge.
    PAG_HD int pixelOf(int slot) const {
        if (raster()) {
            return slot < grid.pixels() ? slot : -1;
        }
        const int within = slot & ((1 << (2 * blockLog2)) - 1);
        int rest = slot >> (2 * blockLog2);
        const int blockX = rest % blocksX();
        rest /= blocksX();
        const int blockY = rest % blocksY();
        rest /= blocksY();
        const int phaseX = rest % phase;
        rest /= phase;
        const int phaseY = rest % phase;
        const int image = rest / phase;
        const int mask = (1 << blockLog2) - 1;
        const int y = ((blockY << blockLog2) + (within >> blockLog2)) * phase + phaseY;
        const int x = ((blockX << blockLog2) + (within & mask)) * phase + phaseX;
        const bool inside = image < grid.images && y < grid.height && x < grid.width;
        return inside ? (image * grid.height + y) * grid.width + x : -1;
    }

private:
    PAG_HD int blocksAlong(int size) const {
        return ceilDivide(ceilDivide(size, phase), 1 << blockLog2);
    }
};

// The order for a convolution of that dilation: phases only where each still fills whole blocks,
// since a block that hangs over the edge is a block of wasted slots.
PAG_HD PixelOrder orderFor(const Grid& grid, int dilation) {
    const int blockLog2 = smaller(grid.height, grid.width) >= 8 ? 3 : 0;
    const int shorter = smaller(grid.height, grid.width);
    const bool phases = blockLog2 > 0 && dilation > 1 && shorter >= 8 * dilation;
    return {grid, blockLog2, phases ? dilation : 1};
}

}  // namespace pagdeploy
