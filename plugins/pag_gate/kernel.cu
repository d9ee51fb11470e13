// Launchers of PAGGate and of the pixel lists.
#include <climits>

#include "pag_gate/launch.hpp"
#include "pag_gate/make_lists.cuh"

namespace pagdeploy {

namespace {

// Enough blocks to fill any GPU; the kernel's loop covers larger maps.
constexpr int kMaxArgmaxBlocks = 2048;

GateParams gateParams(const GateProblem& problem, const void* logits, int* selection) {
    return {logits, problem.strides, problem.grid, problem.channels, selection};
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
    if (!listsFit(order, layout)) {
        return cudaErrorInvalidValue;
    }
    ListParams params{};
    setLists(order, layout, workspace, &params);
    params.selection = selection;
    params.perImage = perImage ? 1 : 0;
    return makeLists<FromSelection, FromSelection>(params, stream, lists);
}

cudaError_t launchGateAndLists(const GateProblem& problem, const PixelOrder& order,
                               const ListLayout& layout, const void* logits, int* selection,
                               void* workspace, cudaStream_t stream, PixelLists* lists) {
    if (faultOf(problem) != nullptr || !listsFit(order, layout)) {
        return cudaErrorInvalidValue;
    }
    ListParams params{};
    setLists(order, layout, workspace, &params);
    params.gate = gateParams(problem, logits, selection);
    params.selection = selection;
    switch (problem.type) {
        case DataType::kFloat32:
            return makeLists<FromLogits<float>, FromSelection>(params, stream, lists);
        case DataType::kFloat16:
            return makeLists<FromLogits<Half>, FromSelection>(params, stream, lists);
        case DataType::kBFloat16:
            return makeLists<FromLogits<BFloat16>, FromSelection>(params, stream, lists);
    }
    return cudaErrorInvalidValue;
}

}  // namespace pagdeploy
