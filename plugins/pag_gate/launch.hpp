// Host side of PAGGate and of the pixel lists. Everything is enqueued on the stream; nothing is
// allocated, and no result is awaited, so that a CUDA graph can capture all of it.
#pragma once

#include <cuda_runtime_api.h>

#include "common/element.hpp"
#include "pag_gate/geometry.hpp"

namespace pagdeploy {

struct GateProblem {
    DataType type;
    Grid grid;
    int channels;  // K, at most kMaxBranches
    LogitStrides strides;
};

// Pixels sorted by what a selection says. `counts` has one entry per list, `pixels` has
// `capacity` entries per list; both stay on the device. The selection that they were made from
// stays as it is while they are in use: kernels that need not read a long list read it instead. It
// is nullptr where the lists say something else.
struct PixelLists {
    const int* pixels;
    const int* counts;
    int capacity;
    const int* selection;
    bool perImage;
    ListLayout layout;
};

// A sentence that says why the problem is refused, or nullptr.
const char* faultOf(const GateProblem& problem);

std::size_t listWorkspaceBytes(const PixelOrder& order, const ListLayout& layout);

// selection[n, y, x] = index of the largest logit.
cudaError_t launchGate(const GateProblem& problem, const void* logits, int* selection,
                       cudaStream_t stream);

// Lists from a selection. With `perImage` the selection has one value per image instead of one
// per pixel. The lists lie in `workspace`, of listWorkspaceBytes().
cudaError_t launchLists(const PixelOrder& order, const ListLayout& layout, const int* selection,
                        bool perImage, void* workspace, cudaStream_t stream, PixelLists* lists);

// Selection and lists together, in the launches that the lists alone take: one for small maps, two
// for larger ones.
cudaError_t launchGateAndLists(const GateProblem& problem, const PixelOrder& order,
                               const ListLayout& layout, const void* logits, int* selection,
                               void* workspace, cudaStream_t stream, PixelLists* lists);

}  // namespace pagdeploy
