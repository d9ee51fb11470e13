// Planner and launcher of PerforatedConv. Host code only; a .cu file because the lists it launches
// and the kernels it names come from nvcc.
#include "perforated_conv/launch.hpp"

#include <climits>

#include "common/launch_kernel.hpp"
#include "perforated_conv/cost.hpp"
#include "perforated_conv/launch_details.hpp"
#include "perforated_conv/rows.cuh"
#include "perforated_conv/variants.hpp"

namespace pagdeploy {

namespace {

constexpr int kDirectThreadsPerBlock = 256;
constexpr int kDirectBlocksPerProcessor = 8;

VariantKernel kernelOf(int variant) {
    return kVariants[variant].family == VariantFamily::wgmma ? wgmmaKernel(variant)
                                                             : tensorOrExactKernel(variant);
}

bool deviceCanRun(const Variant& variant, const DeviceTraits& device) {
    switch (variant.family) {
        case VariantFamily::tensor:
            return device.computeCapability >= (variant.type == DataType::kFloat16 ? 75 : 80);
        case VariantFamily::exact:
            return true;
        case VariantFamily::wgmma:
            return device.computeCapability == 90;
    }
    return false;
}

int sharedBytes(const PerforatedConvProblem& problem, int variant, const VariantKernel& kernel) {
    return kernel.tableOffset +
           RowTable::bytes(problem.geometry.taps(), kVariants[variant].rows);
}

bool fits(const PerforatedConvProblem& problem, int index, const DeviceTraits& device) {
    const Variant& variant = kVariants[index];
    const bool typeFits = variant.type == problem.type &&
                          (variant.type != DataType::kFloat32 ||
                           (variant.family == VariantFamily::exact) != problem.allowTf32);
    if (!typeFits || !tilesCanCompute(problem) || !deviceCanRun(variant, device)) {
        return false;
    }
    const VariantKernel kernel = kernelOf(index);
    return kernel.function != nullptr &&
           sharedBytes(problem, index, kernel) <= device.sharedBytesPerBlock;
}

cudaError_t planDirect(const PerforatedConvProblem& problem, const DeviceTraits& device,
                       PerforatedConvPlan* plan) {
    const long long values =
        (long long)problem.geometry.output.pixels() * problem.geometry.outputChannels;
    const long long blocks = ceilDivide(values, (long long)kDirectThreadsPerBlock);
    const int most = device.multiprocessors * kDirectBlocksPerProcessor;
    *plan = {kDirectVariant, int(smaller(blocks, (long long)most)), 0, orderOf(problem)};
    return cudaSuccess;
}

cudaError_t planOn(const PerforatedConvProblem& problem, int variant, const DeviceTraits& device,
                   PerforatedConvPlan* plan) {
    if (variant == kDirectVariant) {
        return planDirect(problem, device, plan);
    }
    if (variant < 0 || variant >= kVariantCount || !fits(problem, variant, device)) {
        return cudaErrorNotSupported;
    }
    const VariantKernel kernel = kernelOf(variant);
    const int bytes = sharedBytes(problem, variant, kernel);
    int resident = 0;
    const cudaError_t error =
        residentBlocks<ConvParams>(kernel.function, kernel.threads, bytes, &resident);
    if (error != cudaSuccess || resident == 0) {
        return error != cudaSuccess ? error : cudaErrorInvalidConfiguration;
    }
    const long long most = mostTiles(problem, kVariants[variant].rows, kVariants[variant].columns);
    const long long persistent = (long long)resident * device.multiprocessors;
    *plan = {variant, int(smaller(most, persistent)), bytes, orderOf(problem)};
    return cudaSuccess;
}

}  // namespace

cudaError_t describeDevice(DeviceTraits* device) {
    int number = 0;
    cudaError_t error = cudaGetDevice(&number);
    int major = 0;
    int minor = 0;
    const struct {
        int* value;
        cudaDeviceAttr attribute;
    } wanted[] = {{&device->multiprocessors, cudaDevAttrMultiProcessorCount},
                  {&device->sharedBytesPerBlock, cudaDevAttrMaxSharedMemoryPerBlockOptin},
                  {&major, cudaDevAttrComputeCapabilityMajor},
                  {&minor, cudaDevAttrComputeCapabilityMinor}};
    for (const auto& one : wanted) {
        if (error == cudaSuccess) {
            error = cudaDeviceGetAttribute(one.value, one.attribute, number);
        }
    }
    device->computeCapability = major * 10 + minor;
    return error;
}

PixelOrder orderOf(const PerforatedConvProblem& problem) {
    // Phases help one dilation at stride 1; branches of several dilations share the plain blocks.
    const ConvGeometry& geometry = problem.geometry;
    const BranchGeometry& branch = problem.branch[0];
    const bool phases = problem.selection.branches == 1 && geometry.taps() > 1 &&
                        geometry.strideY == 1 && geometry.strideX == 1 &&
                        branch.dilationY == branch.dilationX;
    return orderFor(geometry.output, phases ? branch.dilationX : 1);
}

bool aligned(const void* pointer) {
    constexpr std::uintptr_t kAlignment = 16;
    return reinterpret_cast<std::uintptr_t>(pointer) % kAlignment == 0;
}

bool alignedForTiles(const PerforatedConvProblem& problem, const PerforatedConvBuffers& buffers) {
    bool good = aligned(buffers.input) && aligned(buffers.output);
    good = good && (problem.baseIsOneValue || aligned(buffers.base));
    for (int b = 0; b < problem.selection.branches; ++b) {
        good = good && aligned(buffers.weights[b]) && aligned(buffers.bias[b]);
    }
    return good;
}

ConvParams convParams(const PerforatedConvProblem& problem, const PerforatedConvBuffers& buffers,
                      const PixelLists& lists) {
    ConvParams params{};
    params.input = buffers.input;
    params.base = buffers.base;
    params.output = buffers.output;
    params.geometry = problem.geometry;
    params.branches = problem.selection.branches;
    for (int b = 0; b < params.branches; ++b) {
        params.weights[b] = buffers.weights[b];
        params.bias[b] = buffers.bias[b];
        params.branch[b] = problem.branch[b];
    }
    params.pixels = lists.pixels;
    params.counts = lists.counts;
    params.capacity = lists.capacity;
    const Grid& output = problem.geometry.output;
    params.selection = lists.selection;
    for (int b = 0; b < lists.layout.branches; ++b) {
        params.values[b] = lists.layout.values[b];
    }
    params.pixelsPerDecision = lists.perImage ? output.height * output.width : 1;
    params.fewestToWalk = lists.selection != nullptr ? fewestToWalk(output) : output.pixels();
    params.inputPitch = problem.inputPitch;
    params.outputPitch = problem.outputPitch;
    params.basePitch = problem.basePitch;
    params.weightOutputStride = problem.weightOutputStride;
    params.weightTapStride = problem.weightTapStride;
    params.weightChannelStride = problem.weightChannelStride;
    params.mode = problem.mode;
    params.activation = problem.activation;
    params.alpha = problem.alpha;
    params.baseIsOneValue = problem.baseIsOneValue ? 1 : 0;
    params.fillInactive = problem.fillInactive ? 1 : 0;
    return params;
}

int perforatedConvVariants() { return kVariantCount; }

const char* perforatedConvVariantName(int variant) {
    return variant >= 0 && variant < kVariantCount ? kVariants[variant].name : "direct";
}

bool perforatedConvVariantFits(const PerforatedConvProblem& problem, int variant) {
    DeviceTraits device{};
    if (faultOf(problem) != nullptr || describeDevice(&device) != cudaSuccess) {
        return false;
    }
    return variant == kDirectVariant ||
           (variant >= 0 && variant < kVariantCount && fits(problem, variant, device));
}

cudaError_t planPerforatedConv(const PerforatedConvProblem& problem, int variant,
                               PerforatedConvPlan* plan) {
    if (faultOf(problem) != nullptr) {
        return cudaErrorInvalidValue;
    }
    DeviceTraits device{};
    const cudaError_t error = describeDevice(&device);
    return error != cudaSuccess ? error : planOn(problem, variant, device, plan);
}

cudaError_t planPerforatedConv(const PerforatedConvProblem& problem, PerforatedConvPlan* plan) {
    if (faultOf(problem) != nullptr) {
        return cudaErrorInvalidValue;
    }
    DeviceTraits device{};
    const cudaError_t error = describeDevice(&device);
    if (error != cudaSuccess) {
        return error;
    }
    int best = kDirectVariant;
    double bestCost = 0.0;
    for (int i = 0; i < kVariantCount; ++i) {
        if (!fits(problem, i, device)) {
            continue;
        }
        const VariantKernel kernel = kernelOf(i);
        int resident = 0;
        if (residentBlocks<ConvParams>(kernel.function, kernel.threads,
                                       sharedBytes(problem, i, kernel), &resident) != cudaSuccess ||
            resident == 0) {
            continue;
        }
        const bool wgmma = kVariants[i].family == VariantFamily::wgmma;
        const double cost = expectedCost(problem, {kVariants[i].rows, kVariants[i].columns, wgmma},
                                         resident, device);
        if (best == kDirectVariant || cost < bestCost) {
            best = i;
            bestCost = cost;
        }
    }
    return planOn(problem, best, device, plan);
}

std::size_t perforatedConvWorkspaceBytes(const PerforatedConvProblem& problem) {
    return listWorkspaceBytes(orderOf(problem), problem.selection);
}

cudaError_t launchPerforatedConv(const PerforatedConvProblem& problem,
                                 const PerforatedConvPlan& plan,
                                 const PerforatedConvBuffers& buffers, cudaStream_t stream) {
    if (!aligned(buffers.workspace)) {
        return cudaErrorMisalignedAddress;
    }
    PixelLists lists{};
    const cudaError_t error =
        launchLists(plan.order, problem.selection, buffers.selection, problem.selectionPerImage,
                    buffers.workspace, stream, &lists);
    return error != cudaSuccess ? error
                                : launchPerforatedConv(problem, plan, buffers, lists, stream);
}

cudaError_t launchPerforatedConv(const PerforatedConvProblem& problem,
                                 const PerforatedConvPlan& plan,
                                 const PerforatedConvBuffers& buffers, const PixelLists& lists,
                                 cudaStream_t stream) {
    if (buffers.output == buffers.input) {
        return cudaErrorInvalidValue;
    }
    const ConvParams params = convParams(problem, buffers, lists);
    if (plan.variant == kDirectVariant) {
        return launchKernel<ConvParams>(directKernel(problem.type),
                                        {plan.blocks, kDirectThreadsPerBlock, 0}, stream, params);
    }
    if (!alignedForTiles(problem, buffers)) {
        return cudaErrorMisalignedAddress;
    }
    const VariantKernel kernel = kernelOf(plan.variant);
    return launchKernel<ConvParams>(kernel.function,
                                    {plan.blocks, kernel.threads, plan.sharedBytes}, stream,
                                    params);
}

}  // namespace pagdeploy
