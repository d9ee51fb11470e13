// Launching the compaction for any source of values.
#pragma once

#include <climits>

#include "common/launch_kernel.hpp"
#include "pag_gate/kernel.cuh"
#include "pag_gate/launch.hpp"

namespace pagdeploy {

inline bool listsFit(const PixelOrder& order, const ListLayout& layout) {
    return layout.branches >= 1 && layout.branches <= kMaxBranches && order.slots() <= INT_MAX;
}

// Fills in what every source of values needs.
inline void setLists(const PixelOrder& order, const ListLayout& layout, void* workspace,
                     ListParams* params) {
    const ListWorkspace space = listWorkspace(order, layout);
    char* const bytes = static_cast<char*>(workspace);
    params->order = order;
    params->layout = layout;
    params->partial = reinterpret_cast<int*>(bytes + space.partialOffset());
    params->counts = reinterpret_cast<int*>(bytes + space.countsOffset());
    params->pixels = reinterpret_cast<int*>(bytes + space.pixelsOffset());
    params->capacity = space.capacity;
}

// `Again` is the source for the second of two launches: the first may have stored its values.
template <typename Source, typename Again, typename Params>
cudaError_t makeLists(const Params& params, cudaStream_t stream, PixelLists* lists) {
    *lists = {params.pixels,    params.counts,       params.capacity,
              params.selection, params.perImage != 0, params.layout};
    const LaunchShape shape{listBlocks(params.order), kListThreads, 0};
    if (shape.blocks <= kBlocksThatCountThemselves) {
        return launchKernel<Params>(listPixels<Source, Params>, shape, stream, params);
    }
    const cudaError_t error =
        launchKernel<Params>(countPixels<Source, Params>, shape, stream, params);
    return error != cudaSuccess
               ? error
               : launchKernel<Params>(scatterPixels<Again, Params>, shape, stream, params);
}

}  // namespace pagdeploy
