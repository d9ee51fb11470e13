// Kernel source and launcher of the support.
#include "perforated_conv/support.hpp"

#include "pag_gate/make_lists.cuh"
#include "perforated_conv/geometry.hpp"

namespace pagdeploy {

namespace {

struct SupportParams : ListParams {
    ConvGeometry geometry;
    BranchGeometry branch;
    int value;
};

// 1 where an active pixel reads, else 0.
struct FromSupport {
    PAG_DEVICE static int valueBefore(const SupportParams& params, int pixel) {
        return valueAt(params, pixel);
    }
    PAG_DEVICE static int valueAt(const SupportParams& params, int pixel) {
        const PixelPosition input = positionOf(params.geometry.input, pixel);
        const bool read = params.geometry.isRead(params.branch, input, [&](int output) {
            const int decision = params.perImage != 0 ? input.image : output;
            return params.selection[decision] == params.value;
        });
        return read ? 1 : 0;
    }
};

constexpr ListLayout kSupportLayout{1, {1}};

PixelOrder supportOrder(const PerforatedConvProblem& problem) {
    return orderFor(problem.geometry.input, 1);
}

}  // namespace

std::size_t supportWorkspaceBytes(const PerforatedConvProblem& problem) {
    return listWorkspaceBytes(supportOrder(problem), kSupportLayout);
}

cudaError_t launchSupport(const PerforatedConvProblem& problem, const int* selection,
                          void* workspace, cudaStream_t stream, PixelLists* lists) {
    const PixelOrder order = supportOrder(problem);
    if (faultOf(problem) != nullptr || problem.selection.branches != 1 ||
        !listsFit(order, kSupportLayout)) {
        return cudaErrorInvalidValue;
    }
    SupportParams params{};
    setLists(order, kSupportLayout, workspace, &params);
    params.selection = selection;
    params.perImage = problem.selectionPerImage ? 1 : 0;
    params.geometry = problem.geometry;
    params.branch = problem.branch[0];
    params.value = problem.selection.values[0];
    const cudaError_t error = makeLists<FromSupport, FromSupport>(params, stream, lists);
    lists->selection = nullptr;  // it is one of output pixels, the lists are of input pixels
    return error;
}

}  // namespace pagdeploy
