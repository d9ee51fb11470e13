// Perforated convolution as a matrix product with gathered rows, NHWC.
//   rows    = active pixels, from a list on the device whose length only the device knows
//   columns = output channels of one group
//   depth   = taps x input channels of the group
// The grid is persistent and sized for the full map, so the launch is the same for every
// selection. Each output row belongs to one block: no atomics on data, bitwise repeatable, and
// independent of the order of the list. Behind the product's tiles the same blocks fill the
// pixels that no branch computes, which keeps the memory busy while the last tiles multiply.
#pragma once

#include "perforated_conv/products.cuh"
#include "perforated_conv/rows.cuh"

namespace pagdeploy {

// Turing has too little shared memory for the tiles that count on two resident blocks; bounding
// their registers there would only make them spill.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int kMostResidentBlocks = 1;
#else
constexpr int kMostResidentBlocks = 32;
#endif

// The shared memory of a block: stages of operands, later reused for the sums, then the row table.
template <typename TileShape>
struct GatherConvMemory {
    static constexpr int kLeftBytes = TileShape::kRows * kTileRowBytes;
    static constexpr int kStageBytes = (TileShape::kRows + TileShape::kColumns) * kTileRowBytes;
    // Eight floats of padding shift every row by half the banks.
    static constexpr int kSumStride = TileShape::kColumns + 8;
    static constexpr int kTableOffset =
        larger(TileShape::kStages * kStageBytes, TileShape::kRows * kSumStride * 4);

    static constexpr int bytes(int taps) {
        return kTableOffset + RowTable::bytes(taps, TileShape::kRows);
    }
};

// Brings the operands of one depth step after the other into shared memory. Every thread copies
// the same 16-byte column of every kThreads / 8-th row.
template <typename Element, int kRows, int kColumns, int kThreads>
struct StageLoader {
    static constexpr int kRowStep = kThreads / kChunksPerRow;
    static_assert(kRows % kRowStep == 0 && kColumns % kRowStep == 0, "whole rows in each pass");

    const char* input;
    const char* weights;
    const int* source;
    std::size_t inputPitchBytes;
    std::size_t weightOutputBytes;
    std::size_t weightTapBytes;
    int groupBytes;  // of one row: the group's input channels
    int columns;     // of this tile that exist
    unsigned taps;
    DepthStep step;

    PAG_DEVICE StageLoader(const ConvParams& params, const Tile& tile, const RowTable& rows)
        : source(rows.source), taps(*rows.taps), step{taps, 0} {
        constexpr int kSize = int(sizeof(Element));
        const ConvGeometry& geometry = params.geometry;
        groupBytes = geometry.inputsPerGroup() * kSize;
        input = static_cast<const char*>(params.input) + std::size_t(tile.group) * groupBytes;
        inputPitchBytes = std::size_t(params.inputPitch) * kSize;
        weightOutputBytes = std::size_t(params.weightOutputStride) * kSize;
        weightTapBytes = std::size_t(params.weightTapStride) * kSize;
        const int channel = tile.group * geometry.outputsPerGroup() + tile.firstColumn;
        weights = static_cast<const char*>(params.weights[tile.branch]) +
                  std::size_t(channel) * weightOutputBytes;
        columns = geometry.outputsPerGroup() - tile.firstColumn;
    }

    PAG_DEVICE int steps() const {
        return __popc(taps) * ceilDivide(groupBytes, kTileRowBytes);
    }

    PAG_DEVICE void load(unsigned char* stage) {
        const int tap = __ffs(step.tapsLeft) - 1;
        const int chunk = int(threadIdx.x) % kChunksPerRow;
        const int firstRow = int(threadIdx.x) / kChunksPerRow;
        const int byte = step.chunk * kTileRowBytes + chunk * kChunkBytes;
        const bool inDepth = byte < groupBytes;
        const int* const tapSource = source + tap * kRows;
        PAG_UNROLL
        for (int i = 0; i < kRows / kRowStep; ++i) {
            const int row = firstRow + i * kRowStep;
            const int pixel = tapSource[row];
            const bool valid = inDepth && pixel >= 0;
            copyAsync<Reuse::kKeepInL1>(
                stage + swizzledOffset(row, chunk),
                input + (valid ? std::size_t(pixel) * inputPitchBytes + byte : 0), valid);
        }
        unsigned char* const right = stage + kRows * kTileRowBytes;
        const char* const tapWeights = weights + std::size_t(tap) * weightTapBytes + byte;
        PAG_UNROLL
        for (int i = 0; i < kColumns / kRowStep; ++i) {
            const int column = firstRow + i * kRowStep;
            const bool valid = inDepth && column < columns;
            copyAsync<Reuse::kBypassL1>(
                right + swizzledOffset(column, chunk),
                valid ? tapWeights + std::size_t(column) * weightOutputBytes : weights, valid);
        }
        step.next(taps);
    }
};

// The product over all depth steps, copies kStages - 1 steps ahead of it. Leaves every stage free.
template <int kStageBytes, int kLeftBytes, typename TileShape, typename Loader>
PAG_DEVICE void multiplyStages(TileShape& product, Loader& loader, int steps,
                               unsigned char* stages) {
    constexpr int kStages = TileShape::kStages;
    product.clear();
    for (int stage = 0; stage < kStages - 1; ++stage) {
        if (stage < steps) {
            loader.load(stages + stage * kStageBytes);
        }
        commitCopies();
    }
    int reading = 0;
    int writing = kStages - 1;
    for (int step = 0; step < steps; ++step) {
        waitForCopies<kStages - 2>();
        __syncthreads();  // this stage has landed; everybody has left the one before
        if (step + kStages - 1 < steps) {
            loader.load(stages + writing * kStageBytes);
        }
        commitCopies();
        const unsigned char* const stage = stages + reading * kStageBytes;
        product.multiply(stage, stage + kLeftBytes);
        reading = reading + 1 == kStages ? 0 : reading + 1;
        writing = writing + 1 == kStages ? 0 : writing + 1;
    }
    waitForCopies<0>();
    __syncthreads();
}

template <int kStride, typename TileShape>
PAG_DEVICE void storeSums(const TileShape& product, float* sums) {
    product.forEachPair([&](int row, int column, float first, float second) {
        sums[row * kStride + column] = first;
        sums[row * kStride + column + 1] = second;
    });
}

// The inactive pixels, dealt out behind the last tile. `index` counts from the last tile on.
template <typename Element, int kThreads>
PAG_DEVICE void fillInactive(const ConvParams& params, int index) {
    const int rows = params.rowsOf(params.branches);
    for (; index * kFillRows < rows; index += int(gridDim.x)) {
        fillRows<Element, kThreads>(params, index * kFillRows, rows);
    }
}

template <typename TileShape>
__global__ void __launch_bounds__(TileShape::kThreads,
                                  smaller(TileShape::kBlocksPerProcessor, kMostResidentBlocks))
    gatherConv(const __grid_constant__ ConvParams params) {
    using Element = typename TileShape::Element;
    using Memory = GatherConvMemory<TileShape>;
    constexpr int kRows = TileShape::kRows;
    constexpr int kColumns = TileShape::kColumns;
    constexpr int kThreads = TileShape::kThreads;

    PAG_DYNAMIC_SHARED(shared);
    const ConvGeometry& geometry = params.geometry;
    const RowTable rows = RowTable::at(shared + Memory::kTableOffset, geometry.taps(), kRows);
    const TileSchedule schedule{kRows, kColumns, geometry.groups, geometry.outputsPerGroup()};
    auto rowsOf = [&](int branch) { return params.tileRowsOf(branch); };
    const int tiles = schedule.tiles(params.branches, rowsOf);

    int index = int(blockIdx.x);
    for (; index < tiles; index += int(gridDim.x)) {
        const Tile tile = schedule.tile(index, params.branches, rowsOf);
        rows.build<kRows, kThreads>(params, tile);
        StageLoader<Element, kRows, kColumns, kThreads> loader(params, tile, rows);
        TileShape product;
        multiplyStages<Memory::kStageBytes, Memory::kLeftBytes>(product, loader, loader.steps(),
                                                                shared);

        float* const sums = reinterpret_cast<float*>(shared);
        storeSums<Memory::kSumStride>(product, sums);
        __syncthreads();
        writeRows<Element, kColumns, Memory::kSumStride, kThreads>(params, tile, sums, rows);
    }
    if (params.fillInactive != 0) {
        fillInactive<Element, kThreads>(params, index - tiles);
    }
}

}  // namespace pagdeploy
