// Launchers of PAGGate and of the pixel lists.
#include "pag_gate/kernel.cuh"

#include <climits>

#include "common/launch_kernel.hpp"
#include "pag_gate/launch.hpp"

namespace pagdeploy {

namespace {

// Enough blocks to fill any GPU; the kernel's loop covers larger maps.
constexpr int kMaxArgmaxBlocks = 2048;

GateParams gateParams(const GateProblem& problem, const void* logits, int* selection) {
    return {logits, problem.strides, problem.grid, problem.channels, selection};
}

bool fits(const PixelOrder& order, const ListLayout& layout) {
    return layout.branches >= 1 && layout.branches <= kMaxBranches && order.slots() <= INT_MAX;
}

ListParams listParams(const PixelOrder& order, const ListLayout& layout, void* workspace) {
    const ListWorkspace space = listWorkspace(order, layout);
    char* const bytes = static_cast<char*>(workspace);
    ListParams params{};
    params.order = order;
    params.layout = layout;
    params.partial = reinterpret_cast<int*>(bytes + space.partialOffset());
    params.counts = reinterpret_cast<int*>(bytes + space.countsOffset());
    params.pixels = reinterpret_cast<int*>(bytes + space.pixelsOffset());
    params.capacity = space.capacity;
    return params;
}

template <typename Source>
cudaError_t makeLists(const ListParams& params, cudaStream_t stream, PixelLists* lists) {
    *lists = {params.pixels, params.counts, params.capacity};
    const LaunchShape shape{listBlocks(params.order), kListThreads, 0};
    if (shape.blocks <= kBlocksThatCountThemselves) {
        return launchKernel<ListParams>(listPixels<Source>, shape, stream, params);
    }
    const cudaError_t error =
        launchKernel<ListParams>(countPixels<Source>, shape, stream, params);
    return error != cudaSuccess
               ? error
               : launchKernel<ListParams>(scatterPixels, shape, stream, params);
}

}  // namespace

const char* faultOf(const GateProblem& problem) {
    if (problem.channels < 1 || problem.channels > kMaxBranches) {
        return "a gate has 1 to 16 branches";
    }
    const Grid& grid = problem.grid;
    if (grid.images < 1 || grid.height < 1 || grid.width < 1) {
        return "the map has no pixels";
    }
    if ((long long)grid.images * grid.height * grid.width > INT_MAX) {
        return "the map has more than 2^31 - 1 pixels";
    }
    return nullptr;
}

std::size_t listWorkspaceBytes(const PixelOrder& order, const ListLayout& layout) {
    return listWorkspace(order, layout).bytes();
}

cudaError_t launchGate(const GateProblem& problem, const void* logits, int* selection,
                       cudaStream_t stream) {
    if (faultOf(problem) != nullptr) {
        return cudaErrorInvalidValue;
    }
    const GateParams params = gateParams(problem, logits, selection);
    const int blocks = ceilDivide(problem.grid.pixels(), kListThreads);
    const LaunchShape shape{smaller(blocks, kMaxArgmaxBlocks), kListThreads, 0};
    switch (problem.type) {
        case DataType::kFloat32:
            return launchKernel<GateParams>(argmaxKernel<float>, shape, stream, params);
        case DataType::kFloat16:
            return launchKernel<GateParams>(argmaxKernel<Half>, shape, stream, params);
        case DataType::kBFloat16:
            return launchKernel<GateParams>(argmaxKernel<BFloat16>, shape, stream, params);
    }
    return cudaErrorInvalidValue;
}

cudaError_t launchLists(const PixelOrder& order, const ListLayout& layout, const int* selection,
                        bool perImage, void* workspace, cudaStream_t stream, PixelLists* lists) {
    if (!fits(order, layout)) {
        return cudaErrorInvalidValue;
    }
    ListParams params = listParams(order, layout, workspace);
    params.selection = selection;
    params.perImage = perImage ? 1 : 0;
    return makeLists<FromSelection>(params, stream, lists);
}

cudaError_t launchGateAndLists(const GateProblem& problem, const PixelOrder& order,
                               const ListLayout& layout, const void* logits, int* selection,
                               void* workspace, cudaStream_t stream, PixelLists* lists) {
    if (faultOf(problem) != nullptr || !fits(order, layout)) {
        return cudaErrorInvalidValue;
    }
    ListParams params = listParams(order, layout, workspace);
    params.gate = gateParams(problem, logits, selection);
    params.selection = selection;
    switch (problem.type) {
        case DataType::kFloat32:
            return makeLists<FromLogits<float>>(params, stream, lists);
        case DataType::kFloat16:
            return makeLists<FromLogits<Half>>(params, stream, lists);
        case DataType::kBFloat16:
            return makeLists<FromLogits<BFloat16>>(params, stream, lists);
    }
    return cudaErrorInvalidValue;
}

}  // namespace pagdeploy
