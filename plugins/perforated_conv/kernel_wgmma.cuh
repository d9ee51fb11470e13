// The gather convolution for Hopper's warpgroup product (sm_90a). Rows still arrive by 16-byte
// copies, since the copy engine of sm_90 gathers no rows; their swizzle is the one that the
// product's descriptors name. Products run one step behind: a stage may be refilled only after
// every warpgroup has retired the product that read it, so copies run kStages - 2 ahead.
#pragma once

#include "common/wgmma.hpp"
#include "perforated_conv/kernel.cuh"

namespace pagdeploy {

constexpr int kWarpgroupRows = 64;

template <typename Element_, int kRows_, int kColumns_, int kStages_>
struct WarpgroupTile {
    using Element = Element_;
    static constexpr int kRows = kRows_;
    static constexpr int kColumns = kColumns_;
    static constexpr int kStages = kStages_;
    static constexpr int kThreads = kRows / kWarpgroupRows * 128;
    static_assert(kRows % kWarpgroupRows == 0, "a warpgroup computes 64 rows");
    static_assert(kStages >= 3, "copies run two stages behind the buffers");
};

template <typename TileShape>
__global__ void __launch_bounds__(TileShape::kThreads, 1)
    gatherConvWgmma(const __grid_constant__ ConvParams params) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
    using Element = typename TileShape::Element;
    using Memory = GatherConvMemory<TileShape>;
    constexpr int kRows = TileShape::kRows;
    constexpr int kColumns = TileShape::kColumns;
    constexpr int kThreads = TileShape::kThreads;
    constexpr int kStages = TileShape::kStages;
    constexpr int kAhead = kStages - 2;

    PAG_DYNAMIC_SHARED(shared);
    const ConvGeometry& geometry = params.geometry;
    const RowTable rows = RowTable::at(shared + Memory::kTableOffset, geometry.taps(), kRows);
    const TileSchedule schedule{kRows, kColumns, geometry.groups, geometry.outputsPerGroup()};
    auto rowsOf = [&](int branch) { return params.tileRowsOf(branch); };
    const int tiles = schedule.tiles(params.branches, rowsOf);
    const int lane = int(threadIdx.x) & 31;
    const int warpgroup = int(threadIdx.x) / 128;

    int index = int(blockIdx.x);
    for (; index < tiles; index += int(gridDim.x)) {
        const Tile tile = schedule.tile(index, params.branches, rowsOf);
        rows.build<kRows, kThreads>(params, tile);
        StageLoader<Element, kRows, kColumns, kThreads> loader(params, tile, rows);
        const int steps = loader.steps();

        float sums[kColumns / 2];
        for (int stage = 0; stage < kAhead; ++stage) {
            if (stage < steps) {
                loader.load(shared + stage * Memory::kStageBytes);
            }
            commitCopies();
        }
        int reading = 0;
        int writing = kAhead;
        for (int step = 0; step < steps; ++step) {
            waitForCopies<kAhead - 1>();
            publishToProducts();
            __syncthreads();
            const unsigned char* const stage = shared + reading * Memory::kStageBytes;
            const unsigned char* const left =
                stage + warpgroup * kWarpgroupRows * kTileRowBytes;
            beginProducts();
            PAG_UNROLL
            for (int part = 0; part < 4; ++part) {
                multiplyWarpgroup<Element>(sums, left + part * 32,
                                           stage + Memory::kLeftBytes + part * 32,
                                           step > 0 || part > 0);
            }
            commitProducts();
            if (step + kAhead < steps) {
                loader.load(shared + writing * Memory::kStageBytes);
            }
            commitCopies();
            waitForProducts<1>();
            reading = reading + 1 == kStages ? 0 : reading + 1;
            writing = writing + 1 == kStages ? 0 : writing + 1;
        }
        waitForProducts<0>();
        waitForCopies<0>();
        __syncthreads();

        float* const staged = reinterpret_cast<float*>(shared);
        const int firstRow = warpgroup * kWarpgroupRows + int(threadIdx.x) / 32 % 4 * 16;
        PAG_UNROLL
        for (int j = 0; j < kColumns / 8; ++j) {
            PAG_UNROLL
            for (int q = 0; q < 4; ++q) {
                const int row = firstRow + accumulatorRow(lane, q);
                const int column = j * 8 + accumulatorColumn(lane, q);
                // Without a single tap inside the map no product has set the sums.
                staged[row * Memory::kSumStride + column] = steps > 0 ? sums[j * 4 + q] : 0.0f;
            }
        }
        __syncthreads();
        writeRows<Element, kColumns, Memory::kSumStride, kThreads>(params, tile, staged, rows);
    }
    if (params.fillInactive != 0) {
        fillInactive<Element, kThreads>(params, index - tiles);
    }
#endif
}

}  // namespace pagdeploy
