// A C interface around the kernels for kernels.py: raw pointers and a stream, nothing allocated.
// The same file is compiled by nvcc, and by a C++ compiler with the emulator of
// tests/plugins/kernels for the driver's self-check.
#include "pag_gate/launch.hpp"
#include "perforated_conv/fused_tail.hpp"
#include "perforated_conv/launch.hpp"
#include "perforated_conv/support.hpp"

using namespace pagdeploy;

namespace {

// Mirrored by library.py, field by field.
struct ConvArguments {
    int type, images, height, width, inputs, outputs, kernel, stride, groups;
    int mode, activation;
    int branches;
    int dilations[kMaxBranches];
    int values[kMaxBranches];
    int perImage, baseIsOneValue, fillInactive, allowTf32;
    float alpha, density;
    const void* input;
    const int* selection;
    const void* weights[kMaxBranches];
    const void* bias[kMaxBranches];
    const void* base;
    void* output;
    void* workspace;
};

struct GateArguments {
    int type, images, height, width, channels, channelsLast;
    int branches;
    int values[kMaxBranches];
    const void* logits;
    int* selection;
    void* workspace;
};

constexpr int kPlannedVariant = -2;

PerforatedConvProblem problemOf(const ConvArguments& a) {
    const Grid input{a.images, a.height, a.width};
    const int pad = a.dilations[0] * (a.kernel / 2);
    const Grid output{a.images,
                      outputSize(a.height, a.kernel, a.stride, a.dilations[0], 2 * pad),
                      outputSize(a.width, a.kernel, a.stride, a.dilations[0], 2 * pad)};
    const ConvGeometry geometry{input,    output,   a.kernel, a.kernel, a.stride,
                                a.stride, a.groups, a.inputs, a.outputs};
    PerforatedConvProblem problem =
        channelsLastProblem(DataType(a.type), geometry, {1, 1, 0, 0}, a.values[0]);
    problem.selection.branches = a.branches;
    for (int b = 0; b < a.branches; ++b) {
        const int reach = a.dilations[b] * (a.kernel / 2);
        problem.selection.values[b] = a.values[b];
        problem.branch[b] = {a.dilations[b], a.dilations[b], reach, reach};
    }
    problem.mode = a.mode;
    problem.activation = a.activation;
    problem.alpha = a.alpha;
    problem.selectionPerImage = a.perImage != 0;
    problem.baseIsOneValue = a.baseIsOneValue != 0;
    problem.fillInactive = a.fillInactive != 0;
    problem.allowTf32 = a.allowTf32 != 0;
    problem.density = a.density;
    return problem;
}

PerforatedConvBuffers buffersOf(const ConvArguments& a) {
    PerforatedConvBuffers buffers{};
    buffers.input = a.input;
    buffers.selection = a.selection;
    for (int b = 0; b < a.branches; ++b) {
        buffers.weights[b] = a.weights[b];
        buffers.bias[b] = a.bias[b];
    }
    buffers.base = a.base;
    buffers.output = a.output;
    buffers.workspace = a.workspace;
    return buffers;
}

cudaError_t planOf(const PerforatedConvProblem& problem, int variant, PerforatedConvPlan* plan) {
    return variant == kPlannedVariant ? planPerforatedConv(problem, plan)
                                      : planPerforatedConv(problem, variant, plan);
}

// The lists that an earlier call has left in the workspace.
PixelLists listsIn(const PerforatedConvPlan& plan, const PerforatedConvProblem& problem,
                   const PerforatedConvBuffers& buffers) {
    const ListWorkspace space = listWorkspace(plan.order, problem.selection);
    const char* const bytes = static_cast<const char*>(buffers.workspace);
    return {reinterpret_cast<const int*>(bytes + space.pixelsOffset()),
            reinterpret_cast<const int*>(bytes + space.countsOffset()),
            space.capacity,
            buffers.selection,
            problem.selectionPerImage,
            problem.selection};
}

}  // namespace

#define PAG_EXPORT extern "C" __attribute__((visibility("default")))

PAG_EXPORT int pag_variants() { return perforatedConvVariants(); }
PAG_EXPORT const char* pag_variant_name(int variant) {
    return perforatedConvVariantName(variant);
}

PAG_EXPORT int pag_fits(const ConvArguments* a, int variant) {
    return perforatedConvVariantFits(problemOf(*a), variant) ? 1 : 0;
}

// The variant that the planner takes, or a negative error.
PAG_EXPORT int pag_planned(const ConvArguments* a) {
    PerforatedConvPlan plan{};
    const cudaError_t error = planPerforatedConv(problemOf(*a), &plan);
    return error == cudaSuccess ? plan.variant : -1000 - int(error);
}

PAG_EXPORT long long pag_workspace(const ConvArguments* a) {
    return (long long)perforatedConvWorkspaceBytes(problemOf(*a));
}

PAG_EXPORT int pag_conv(const ConvArguments* a, int variant, void* stream) {
    const PerforatedConvProblem problem = problemOf(*a);
    PerforatedConvPlan plan{};
    const cudaError_t error = planOf(problem, variant, &plan);
    return error != cudaSuccess ? error
                                : launchPerforatedConv(problem, plan, buffersOf(*a),
                                                       static_cast<cudaStream_t>(stream));
}

// Without making the lists again, to time the convolution alone.
PAG_EXPORT int pag_conv_from_lists(const ConvArguments* a, int variant, void* stream) {
    const PerforatedConvProblem problem = problemOf(*a);
    PerforatedConvPlan plan{};
    const cudaError_t error = planOf(problem, variant, &plan);
    return error != cudaSuccess
               ? error
               : launchPerforatedConv(problem, plan, buffersOf(*a),
                                      listsIn(plan, problem, buffersOf(*a)),
                                      static_cast<cudaStream_t>(stream));
}

PAG_EXPORT int pag_lists(const ConvArguments* a, void* stream) {
    const PerforatedConvProblem problem = problemOf(*a);
    PerforatedConvPlan plan{};
    PixelLists lists{};
    const cudaError_t error = planPerforatedConv(problem, &plan);
    return error != cudaSuccess
               ? error
               : launchLists(plan.order, problem.selection, a->selection,
                             problem.selectionPerImage, a->workspace,
                             static_cast<cudaStream_t>(stream), &lists);
}

namespace {

GateProblem gateOf(const GateArguments& a) {
    const Grid grid{a.images, a.height, a.width};
    return {DataType(a.type), grid, a.channels,
            a.channelsLast != 0 ? logitStridesNhwc(grid, a.channels)
                                : logitStridesNchw(grid, a.channels)};
}

ListLayout layoutOf(const GateArguments& a) {
    ListLayout layout{a.branches, {}};
    for (int b = 0; b < a.branches; ++b) {
        layout.values[b] = a.values[b];
    }
    return layout;
}

}  // namespace

PAG_EXPORT int pag_gate(const GateArguments* a, void* stream) {
    return launchGate(gateOf(*a), a->logits, a->selection, static_cast<cudaStream_t>(stream));
}

PAG_EXPORT long long pag_gate_workspace(const GateArguments* a) {
    return (long long)listWorkspaceBytes(orderFor(gateOf(*a).grid, 1), layoutOf(*a));
}

PAG_EXPORT int pag_gate_and_lists(const GateArguments* a, void* stream) {
    PixelLists lists{};
    return launchGateAndLists(gateOf(*a), orderFor(gateOf(*a).grid, 1), layoutOf(*a), a->logits,
                              a->selection, a->workspace, static_cast<cudaStream_t>(stream),
                              &lists);
}

namespace {

FusedTailProblem tailOf(const ConvArguments& gathered, const ConvArguments& pointwise) {
    return {problemOf(gathered), problemOf(pointwise)};
}

}  // namespace

PAG_EXPORT int pag_tail_fits(const ConvArguments* gathered, const ConvArguments* pointwise) {
    FusedTailPlan plan{};
    return planFusedTail(tailOf(*gathered, *pointwise), &plan) == cudaSuccess ? 1 : 0;
}

// The lists go to the workspace of the gathered convolution.
PAG_EXPORT int pag_tail(const ConvArguments* gathered, const ConvArguments* pointwise,
                        void* stream) {
    const FusedTailProblem problem = tailOf(*gathered, *pointwise);
    FusedTailPlan plan{};
    const cudaError_t error = planFusedTail(problem, &plan);
    PerforatedConvBuffers second = buffersOf(*pointwise);
    second.workspace = gathered->workspace;
    return error != cudaSuccess ? error
                                : launchFusedTail(problem, plan, buffersOf(*gathered), second,
                                                  static_cast<cudaStream_t>(stream));
}

PAG_EXPORT long long pag_support_workspace(const ConvArguments* gathered) {
    return (long long)supportWorkspaceBytes(problemOf(*gathered));
}

// The convolution `before` where `gathered` reads its output, and nowhere else. The lists go to
// `workspace`, of pag_support_workspace().
PAG_EXPORT int pag_conv_on_support(const ConvArguments* before, const ConvArguments* gathered,
                                   void* workspace, void* stream) {
    const PerforatedConvProblem problem = problemOf(*before);
    PerforatedConvPlan plan{};
    PixelLists lists{};
    cudaError_t error = planPerforatedConv(problem, &plan);
    if (error == cudaSuccess) {
        error = launchSupport(problemOf(*gathered), gathered->selection, workspace,
                              static_cast<cudaStream_t>(stream), &lists);
    }
    return error != cudaSuccess ? error
                                : launchPerforatedConv(problem, plan, buffersOf(*before), lists,
                                                       static_cast<cudaStream_t>(stream));
}
