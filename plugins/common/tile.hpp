// Where things lie in a shared-memory tile and in the registers of a matrix product.
#pragma once

#include "common/host_device.hpp"

namespace pagdeploy {

// Every row of a tile is 128 bytes of the product's depth, whatever the element type.
constexpr int kTileRowBytes = 128;
constexpr int kChunkBytes = 16;
constexpr int kChunksPerRow = kTileRowBytes / kChunkBytes;

// Byte offset of a 16-byte chunk. The exclusive-or spreads eight rows over all banks, so that
// ldmatrix is free of conflicts, and is the pattern that wgmma calls SWIZZLE_128B.
PAG_HD int swizzledOffset(int row, int chunk) {
    return row * kTileRowBytes + ((chunk ^ (row & 7)) << 4);
}

struct TilePlace {
    int row;
    int chunk;
};

// Which chunk a lane hands to ldmatrix.x4 so that four registers hold the left operand of
// mma.m16n8: 16 rows x 32 bytes.
PAG_HD TilePlace leftOperandPlace(int lane) { return {lane & 15, lane >> 4}; }

// Likewise for two right operands: 16 columns x 32 bytes, the tile holding columns as rows.
PAG_HD TilePlace rightOperandPlace(int lane) {
    return {(lane & 7) | ((lane >> 4) << 3), (lane >> 3) & 1};
}

// Where register `index` of a lane's mma.m16n8 accumulator belongs in the 16 x 8 result.
PAG_HD int accumulatorRow(int lane, int index) { return (lane >> 2) + ((index >> 1) << 3); }
PAG_HD int accumulatorColumn(int lane, int index) { return ((lane & 3) << 1) + (index & 1); }

}  // namespace pagdeploy
