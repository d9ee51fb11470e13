// Kernels, planner and launcher of the fused tail.
#include "perforated_conv/fused_tail.cuh"

#include "common/launch_kernel.hpp"
#include "perforated_conv/cost.hpp"
#include "perforated_conv/fused_tail.hpp"
#include "perforated_conv/launch_details.hpp"

namespace pagdeploy {

namespace {

struct FusedVariant {
    DataType type;
    int middle;
    int rows;
    Kernel<FusedTailParams> function;
    int threads;
    int tableOffset;
};

template <typename Shape>
FusedVariant describe() {
    return {ElementTraits<typename Shape::Element>::kType,
            Shape::kMiddle,
            Shape::kRows,
            fusedTail<Shape>,
            Shape::kThreads,
            Shape::kTableOffset};
}

constexpr int kFusedVariants = 0
#define PAG_FUSED_VARIANT(...) +1
#include "perforated_conv/fused_variants.inc"
    ;

FusedVariant variantAt(int index) {
    const FusedVariant variants[] = {
#define PAG_FUSED_VARIANT(name, element, middle, rows, strip, down, across, stages) \
    describe<FusedTailShape<element, middle, rows, strip, down, across, stages>>(),
#include "perforated_conv/fused_variants.inc"
    };
    return variants[index];
}

bool sameGrid(const Grid& a, const Grid& b) {
    return a.images == b.images && a.height == b.height && a.width == b.width;
}

bool pointwise(const PerforatedConvProblem& problem) {
    const ConvGeometry& g = problem.geometry;
    const BranchGeometry& branch = problem.branch[0];
    return g.taps() == 1 && g.groups == 1 && g.strideY == 1 && g.strideX == 1 &&
           branch.padTop == 0 && branch.padLeft == 0 && sameGrid(g.input, g.output);
}

}  // namespace

const char* faultOf(const FusedTailProblem& problem) {
    for (const PerforatedConvProblem* one : {&problem.gathered, &problem.pointwise}) {
        if (const char* fault = faultOf(*one)) {
            return fault;
        }
        if (one->selection.branches != 1 || one->geometry.groups != 1) {
            return "a fused tail has one branch and no groups";
        }
        if (!tilesCanCompute(*one)) {
            return "a fused tail needs aligned rows of eight channels";
        }
    }
    if (!pointwise(problem.pointwise)) {
        return "the second convolution of a fused tail is a plain 1x1";
    }
    if (problem.gathered.type != problem.pointwise.type ||
        problem.gathered.geometry.outputChannels != problem.pointwise.geometry.inputChannels ||
        !sameGrid(problem.gathered.geometry.output, problem.pointwise.geometry.input)) {
        return "the two convolutions of a fused tail do not fit together";
    }
    return nullptr;
}

cudaError_t planFusedTail(const FusedTailProblem& problem, FusedTailPlan* plan) {
    if (faultOf(problem) != nullptr) {
        return cudaErrorInvalidValue;
    }
    DeviceTraits device{};
    cudaError_t error = describeDevice(&device);
    const ConvGeometry& geometry = problem.gathered.geometry;
    for (int i = 0; i < kFusedVariants && error == cudaSuccess; ++i) {
        const FusedVariant variant = variantAt(i);
        const int bytes = variant.tableOffset + RowTable::bytes(geometry.taps(), variant.rows);
        const bool fits = variant.type == problem.gathered.type &&
                          variant.middle == geometry.outputChannels &&
                          device.computeCapability >= 80 && bytes <= device.sharedBytesPerBlock;
        if (!fits) {
            continue;
        }
        int resident = 0;
        error = residentBlocks<FusedTailParams>(variant.function, variant.threads, bytes,
                                                &resident);
        if (error != cudaSuccess || resident == 0) {
            return error != cudaSuccess ? error : cudaErrorInvalidConfiguration;
        }
        const long long most = mostTiles(problem.gathered, variant.rows, variant.middle);
        const long long persistent = (long long)resident * device.multiprocessors;
        *plan = {i, int(smaller(most, persistent)), bytes, orderOf(problem.gathered)};
        return cudaSuccess;
    }
    return error != cudaSuccess ? error : cudaErrorNotSupported;
}

std::size_t fusedTailWorkspaceBytes(const FusedTailProblem& problem) {
    return perforatedConvWorkspaceBytes(problem.gathered);
}

cudaError_t launchFusedTail(const FusedTailProblem& problem, const FusedTailPlan& plan,
                            const PerforatedConvBuffers& gathered,
                            const PerforatedConvBuffers& pointwise, cudaStream_t stream) {
    if (pointwise.output == gathered.input) {
        return cudaErrorInvalidValue;
    }
    PerforatedConvBuffers first = gathered;
    first.base = pointwise.base;  // neither is touched by the gathered convolution
    first.output = pointwise.output;
    PerforatedConvBuffers second = pointwise;
    second.input = gathered.input;
    if (!alignedForTiles(problem.gathered, first) || !alignedForTiles(problem.pointwise, second) ||
        !aligned(pointwise.workspace)) {
        return cudaErrorMisalignedAddress;
    }
    PixelLists lists{};
    const cudaError_t error = launchLists(plan.order, problem.pointwise.selection,
                                          pointwise.selection, problem.pointwise.selectionPerImage,
                                          pointwise.workspace, stream, &lists);
    if (error != cudaSuccess) {
        return error;
    }
    const FusedTailParams params{convParams(problem.gathered, first, lists),
                                 convParams(problem.pointwise, second, lists)};
    const FusedVariant variant = variantAt(plan.variant);
    return launchKernel<FusedTailParams>(variant.function,
                                         {plan.blocks, variant.threads, plan.sharedBytes}, stream,
                                         params);
}

}  // namespace pagdeploy
