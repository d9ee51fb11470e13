// Kernels of PAGGate: argmax over the branches, and stable compaction of the pixels into one list
// per branch. Compaction keeps no state between calls, so any workspace will do, zeroed or not.
// Large maps take two launches: `countPixels` counts per block, `scatterPixels` adds up the counts
// of the blocks before its own; with at most a few hundred blocks that sum is cheaper than the
// bookkeeping of a single-pass scan. Small maps take one: every block counts what lies before it.
#pragma once

#include "common/ptx.hpp"
#include "pag_gate/geometry.hpp"

namespace pagdeploy {

struct GateParams {
    const void* logits;
    LogitStrides strides;
    Grid grid;
    int channels;
    int* selection;
};

struct ListParams {
    GateParams gate;
    PixelOrder order;
    ListLayout layout;
    const int* selection;
    int perImage;
    int* partial;  // [block][list]
    int* counts;   // [list]
    int* pixels;   // [list][capacity]
    int capacity;
};

template <typename Element>
PAG_DEVICE int selectBranch(const GateParams& params, int pixel) {
    const auto* const logits = static_cast<const Element*>(params.logits) +
                               params.strides.offset(params.grid, pixel, 0);
    return firstLargest(params.channels, [&](int k) {
        return toFloat(logits[k * params.strides.channel]);
    });
}

template <typename Element>
__global__ void __launch_bounds__(kListThreads) argmaxKernel(const __grid_constant__
                                                             GateParams params) {
    const int pixels = params.grid.pixels();
    const int step = int(gridDim.x * blockDim.x);
    for (int pixel = int(blockIdx.x * blockDim.x + threadIdx.x); pixel < pixels; pixel += step) {
        params.selection[pixel] = selectBranch<Element>(params, pixel);
    }
}

struct FromSelection {
    PAG_DEVICE static int valueBefore(const ListParams& params, int pixel) {
        return valueAt(params, pixel);
    }
    PAG_DEVICE static int valueAt(const ListParams& params, int pixel) {
        const int perImage = params.order.grid.height * params.order.grid.width;
        return params.selection[params.perImage != 0 ? pixel / perImage : pixel];
    }
};

template <typename Element>
struct FromLogits {
    // Another block writes this pixel's selection.
    PAG_DEVICE static int valueBefore(const ListParams& params, int pixel) {
        return selectBranch<Element>(params.gate, pixel);
    }
    PAG_DEVICE static int valueAt(const ListParams& params, int pixel) {
        const int value = selectBranch<Element>(params.gate, pixel);
        params.gate.selection[pixel] = value;
        return value;
    }
};

// A Source says which value a pixel has; Params are ListParams, or derived from them with what the
// Source needs besides.

PAG_DEVICE int slotOfThread(int index) {
    return int(blockIdx.x) * kListSlotsPerBlock + index * kListThreads + int(threadIdx.x);
}

PAG_DEVICE int pixelOfSlot(const ListParams& params, int slot) {
    return slot < params.order.slots() ? params.order.pixelOf(slot) : -1;
}

PAG_DEVICE void clearTotals(int lists, int* totals) {
    if (int(threadIdx.x) < lists) {
        totals[threadIdx.x] = 0;
    }
    __syncthreads();
}

// Adds one to the total of each thread's list; all lanes of a warp call this together.
PAG_DEVICE void countLists(int lists, int list, int* totals) {
    for (int k = 0; k < lists; ++k) {
        const unsigned same = __ballot_sync(~0u, list == k);
        if ((int(threadIdx.x) & 31) == 0 && same != 0) {
            atomicAdd(&totals[k], __popc(same));
        }
    }
}

template <typename Source, typename Params>
__global__ void __launch_bounds__(kListThreads) countPixels(const __grid_constant__
                                                            Params params) {
    __shared__ int totals[kMaxBranches + 1];
    const int thread = int(threadIdx.x);
    const int lists = params.layout.lists();
    clearTotals(lists, totals);
    for (int i = 0; i < kListSlotsPerThread; ++i) {
        const int pixel = pixelOfSlot(params, slotOfThread(i));
        const int list = pixel < 0 ? -1 : params.layout.listOf(Source::valueAt(params, pixel));
        countLists(lists, list, totals);
    }
    __syncthreads();
    if (thread < lists) {
        params.partial[int(blockIdx.x) * lists + thread] = totals[thread];
    }
}

// Ranks of the block's slots within their lists, in the order of the slots.
struct BlockRanks {
    static constexpr int kWarps = kListThreads / 32;
    static constexpr int kGroups = kListSlotsPerThread * kWarps;  // of 32 slots each
    static_assert(kGroups == 32, "one warp scans the groups of one list");

    int groupOffset[(kMaxBranches + 1) * kGroups];
    int total[kMaxBranches + 1];

    PAG_DEVICE void count(int lists, const int (&list)[kListSlotsPerThread]) {
        const int lane = int(threadIdx.x) & 31;
        const int warp = int(threadIdx.x) >> 5;
        for (int k = 0; k < lists; ++k) {
            PAG_UNROLL
            for (int i = 0; i < kListSlotsPerThread; ++i) {
                const unsigned same = __ballot_sync(~0u, list[i] == k);
                if (lane == 0) {
                    groupOffset[k * kGroups + i * kWarps + warp] = __popc(same);
                }
            }
        }
        __syncthreads();
        for (int k = warp; k < lists; k += kWarps) {
            const int own = groupOffset[k * kGroups + lane];
            int sum = own;
            for (int distance = 1; distance < 32; distance <<= 1) {
                const int before = __shfl_up_sync(~0u, sum, distance);
                sum += lane >= distance ? before : 0;
            }
            groupOffset[k * kGroups + lane] = sum - own;
            if (lane == 31) {
                total[k] = sum;
            }
        }
        __syncthreads();
    }

    // All lanes of a warp call this together.
    PAG_DEVICE int rank(int lists, int list, int index) const {
        const int lane = int(threadIdx.x) & 31;
        const int warp = int(threadIdx.x) >> 5;
        int result = 0;
        for (int k = 0; k < lists; ++k) {
            const unsigned same = __ballot_sync(~0u, list == k);
            if (list == k) {
                result = groupOffset[k * kGroups + index * kWarps + warp] +
                         __popc(same & ((1u << lane) - 1u));
            }
        }
        return result;
    }
};

// Writes the block's pixels to their lists. `before` counts the pixels of the blocks before; a
// barrier must follow the last addition to it, and that of the ranks does.
template <typename Source, typename Params>
PAG_DEVICE void scatterBlock(const Params& params, BlockRanks& ranks, const int* before) {
    const int lists = params.layout.lists();
    int list[kListSlotsPerThread];
    int pixel[kListSlotsPerThread];
    PAG_UNROLL
    for (int i = 0; i < kListSlotsPerThread; ++i) {
        pixel[i] = pixelOfSlot(params, slotOfThread(i));
        list[i] = pixel[i] < 0 ? -1 : params.layout.listOf(Source::valueAt(params, pixel[i]));
    }
    ranks.count(lists, list);
    PAG_UNROLL
    for (int i = 0; i < kListSlotsPerThread; ++i) {
        const int rank = ranks.rank(lists, list[i], i);
        if (list[i] >= 0) {
            const std::size_t first = std::size_t(list[i]) * params.capacity;
            params.pixels[first + before[list[i]] + rank] = pixel[i];
        }
    }
    const int thread = int(threadIdx.x);
    if (blockIdx.x == gridDim.x - 1 && thread < lists) {
        params.counts[thread] = before[thread] + ranks.total[thread];
    }
}

template <typename Source, typename Params>
__global__ void __launch_bounds__(kListThreads) scatterPixels(const __grid_constant__
                                                              Params params) {
    __shared__ BlockRanks ranks;
    __shared__ int before[kMaxBranches + 1];
    const int lists = params.layout.lists();
    clearTotals(lists, before);
    for (int i = int(threadIdx.x); i < int(blockIdx.x) * lists; i += kListThreads) {
        const int count = params.partial[i];
        if (count != 0) {
            atomicAdd(&before[i % lists], count);
        }
    }
    scatterBlock<Source>(params, ranks, before);
}

// One resident block is asked for: the map is small, and more registers beat more blocks.
template <typename Source, typename Params>
__global__ void __launch_bounds__(kListThreads, 1) listPixels(const __grid_constant__
                                                              Params params) {
    __shared__ BlockRanks ranks;
    __shared__ int before[kMaxBranches + 1];
    const int lists = params.layout.lists();
    clearTotals(lists, before);
    // Whole blocks of slots: every lane takes part in every round.
    for (int slot = int(threadIdx.x); slot < int(blockIdx.x) * kListSlotsPerBlock;
         slot += kListThreads) {
        const int pixel = pixelOfSlot(params, slot);
        const int list = pixel < 0 ? -1 : params.layout.listOf(Source::valueBefore(params, pixel));
        countLists(lists, list, before);
    }
    scatterBlock<Source>(params, ranks, before);
}

}  // namespace pagdeploy
