// Index arithmetic of PerforatedConv: which input pixel a tap reads, which tile a block computes.
#pragma once

#include "common/pixel_order.hpp"

namespace pagdeploy {

// Values of the op's attributes; see docs/ops.md.
constexpr int kModeReplace = 0;
constexpr int kModeAdd = 1;
constexpr int kActivationNone = 0;
constexpr int kActivationRelu = 1;
constexpr int kActivationRelu6 = 2;
constexpr int kActivationLeakyRelu = 3;

// What differs between the convolutions that share one launch.
struct BranchGeometry {
    int dilationY;
    int dilationX;
    int padTop;
    int padLeft;
};

struct ConvGeometry {
    Grid input;
    Grid output;
    int kernelHeight;
    int kernelWidth;
    int strideY;
    int strideX;
    int groups;
    int inputChannels;
    int outputChannels;

    PAG_HD int taps() const { return kernelHeight * kernelWidth; }
    PAG_HD int inputsPerGroup() const { return inputChannels / groups; }
    PAG_HD int outputsPerGroup() const { return outputChannels / groups; }

    // The input pixel that a tap of an output pixel reads, or -1 for a zero of the padding.
    PAG_HD int tapSource(const BranchGeometry& branch, const PixelPosition& at, int tap) const {
        const int tapY = tap / kernelWidth;
        const int tapX = tap - tapY * kernelWidth;
        const int y = at.y * strideY - branch.padTop + tapY * branch.dilationY;
        const int x = at.x * strideX - branch.padLeft + tapX * branch.dilationX;
        const bool inside = y >= 0 && y < input.height && x >= 0 && x < input.width;
        return inside ? (at.image * input.height + y) * input.width + x : -1;
    }

    // Whether a tap of some active output pixel reads the input pixel.
    template <typename IsActive>
    PAG_HD bool isRead(const BranchGeometry& branch, const PixelPosition& at,
                       IsActive&& isActive) const {
        for (int tap = 0; tap < taps(); ++tap) {
            const int tapY = tap / kernelWidth;
            const int y = at.y + branch.padTop - tapY * branch.dilationY;
            const int x = at.x + branch.padLeft - (tap - tapY * kernelWidth) * branch.dilationX;
            if (y < 0 || x < 0 || y % strideY != 0 || x % strideX != 0) {
                continue;
            }
            const int outputY = y / strideY;
            const int outputX = x / strideX;
            if (outputY < output.height && outputX < output.width &&
                isActive((at.image * output.height + outputY) * output.width + outputX)) {
                return true;
            }
        }
        return false;
    }
};

// A step of the product's depth: a tap, and a chunk of 128 bytes of input channels. Taps run
// inside chunks, because the taps of one chunk read the same patch of the map again. Taps that no
// row of the tile has are left out.
struct DepthStep {
    unsigned tapsLeft;
    int chunk;

    PAG_HD void next(unsigned taps) {
        tapsLeft &= tapsLeft - 1;
        if (tapsLeft == 0) {
            tapsLeft = taps;
            ++chunk;
        }
    }
};

// A tap mask has 32 bits: kernels with more taps are computed without one.
constexpr int kMaxTileTaps = 32;

// What one block computes at a time: rows of one branch's list times output channels of one group.
struct Tile {
    int branch;
    int firstRow;
    int rows;
    int group;
    int firstColumn;  // within the group
};

// All tiles of one launch, numbered branch by branch, then by rows, then by columns; each branch
// is padded to whole tiles. Walking at most sixteen counts is cheaper than a table in memory.
struct TileSchedule {
    int tileRows;
    int tileColumns;
    int groups;
    int outputsPerGroup;

    PAG_HD int columnTiles() const { return groups * columnTilesPerGroup(); }
    PAG_HD int columnTilesPerGroup() const { return ceilDivide(outputsPerGroup, tileColumns); }

    template <typename RowsOf>
    PAG_HD int tiles(int branches, RowsOf&& rowsOf) const {
        int rowTiles = 0;
        for (int b = 0; b < branches; ++b) {
            rowTiles += ceilDivide(rowsOf(b), tileRows);
        }
        return rowTiles * columnTiles();
    }

    // `index` is below tiles().
    template <typename RowsOf>
    PAG_HD Tile tile(int index, int branches, RowsOf&& rowsOf) const {
        int rowTile = index / columnTiles();
        const int column = index - rowTile * columnTiles();
        Tile result{};
        result.group = column / columnTilesPerGroup();
        result.firstColumn = (column - result.group * columnTilesPerGroup()) * tileColumns;
        for (int b = 0; b < branches; ++b) {
            const int rows = rowsOf(b);
            const int rowTiles = ceilDivide(rows, tileRows);
            if (rowTile < rowTiles) {
                result.branch = b;
                result.firstRow = rowTile * tileRows;
                result.rows = smaller(rows - result.firstRow, tileRows);
                break;
            }
            rowTile -= rowTiles;
        }
        return result;
    }
};

// Rows that a block fills with the base at a time, behind the tiles of the convolution.
constexpr int kFillRows = 32;

// Whether a list holds every pixel. Then row r may stand for pixel r, and no list is read: rows are
// independent, so their order does not matter.
PAG_HD bool isIdentity(int rows, const Grid& output) { return rows == output.pixels(); }

// With at most one pixel in so many inactive, a branch's tiles walk the whole map in place of its
// list, and leave out the inactive pixels when they write. Some rows are then computed for nothing;
// in return no tile begins by waiting for its part of the list, and neighbouring rows read and
// write neighbouring memory. More than half of all pixels are active then, so one branch of a
// launch at most walks.
constexpr int kPixelsPerWasted = 16;

// The least length of a list whose branch walks the map.
PAG_HD int fewestToWalk(const Grid& output) {
    return output.pixels() - output.pixels() / kPixelsPerWasted;
}

// Height or width of a convolution's output; 0 or less if the kernel does not fit.
PAG_HD int outputSize(int size, int kernel, int stride, int dilation, int padBoth) {
    const int reach = dilation * (kernel - 1) + 1;
    return size + padBoth < reach ? 0 : (size + padBoth - reach) / stride + 1;
}

}  // namespace pagdeploy
