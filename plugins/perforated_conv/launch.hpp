// Host side of PerforatedConv: say what is asked (problem), let it be planned once per shape and
// device (plan), then launch as often as wanted. A launch allocates nothing, waits for nothing and
// reads no memory of the host after it has returned, so that a CUDA graph can capture it.
#pragma once

#include <cuda_runtime_api.h>

#include "common/element.hpp"
#include "pag_gate/launch.hpp"
#include "perforated_conv/geometry.hpp"

namespace pagdeploy {

// K convolutions over one selection: pixels of value values[b] are computed by branch b. Weights
// and bias of a branch are its own; everything else is shared. One branch is PerforatedConv; more
// are a fused chain of `replace` convolutions (MultiPool).
struct PerforatedConvProblem {
    DataType type = DataType::kFloat16;
    ConvGeometry geometry{};
    ListLayout selection{};  // branches and their values
    BranchGeometry branch[kMaxBranches]{};

    int mode = kModeReplace;
    int activation = kActivationNone;
    float alpha = 0.01f;
    bool selectionPerImage = false;
    bool baseIsOneValue = false;
    // False where an inactive pixel's output already holds what it must show: base and output are
    // one buffer and the activation leaves the base as it is.
    bool fillInactive = true;
    // Let tensor cores round float factors to TF32, with an error beyond the op's float32 bound.
    bool allowTf32 = false;

    // Elements from pixel to pixel: the number of channels, or more if rows are padded.
    int inputPitch = 0;
    int outputPitch = 0;
    int basePitch = 0;
    // Elements from weight to weight along each axis. Channels-last weights [M][kh][kw][C/g] have
    // {taps * C/g, C/g, 1}; tensor cores need a channel stride of 1.
    long long weightOutputStride = 0;
    long long weightTapStride = 0;
    long long weightChannelStride = 1;

    // The expected share of active pixels. It only guides the choice of a variant.
    float density = 0.4f;
};

// A problem of one branch in channels-last layout without padding between rows.
PerforatedConvProblem channelsLastProblem(DataType type, const ConvGeometry& geometry,
                                          const BranchGeometry& branch, int value);

// A sentence that says why the problem is refused, or nullptr.
const char* faultOf(const PerforatedConvProblem& problem);

constexpr int kDirectVariant = -1;  // the kernel for everything that tiles cannot do

struct PerforatedConvPlan {
    int variant;  // row of variants.inc, or kDirectVariant
    int blocks;
    int sharedBytes;
    PixelOrder order;
};

// The number of rows of variants.inc, and a row's name.
int perforatedConvVariants();
const char* perforatedConvVariantName(int variant);

// Whether the variant can compute the problem on the current device.
bool perforatedConvVariantFits(const PerforatedConvProblem& problem, int variant);

// Plans for the current device: with the variant that a simple model of waves and tiles expects to
// be fastest, or with a given one.
cudaError_t planPerforatedConv(const PerforatedConvProblem& problem, PerforatedConvPlan* plan);
cudaError_t planPerforatedConv(const PerforatedConvProblem& problem, int variant,
                               PerforatedConvPlan* plan);

// Bytes of workspace; needs no device, and depends only on shapes and branches.
std::size_t perforatedConvWorkspaceBytes(const PerforatedConvProblem& problem);

struct PerforatedConvBuffers {
    // Where nearly all pixels are active, values that none of them needs are read as well: without
    // effect, but from memory that must be there.
    const void* input;
    const int* selection;
    const void* weights[kMaxBranches];
    const void* bias[kMaxBranches];
    const void* base;
    void* output;  // not the input: its neighbours are still read
    void* workspace;
};

// Makes the lists and computes. Refuses with cudaErrorMisalignedAddress pointers that the planned
// variant cannot use, and with cudaErrorInvalidValue an output that is the input.
cudaError_t launchPerforatedConv(const PerforatedConvProblem& problem,
                                 const PerforatedConvPlan& plan,
                                 const PerforatedConvBuffers& buffers, cudaStream_t stream);

// Likewise from lists that exist already, in any order: list b holds the pixels of branch b, the
// last one all others.
cudaError_t launchPerforatedConv(const PerforatedConvProblem& problem,
                                 const PerforatedConvPlan& plan,
                                 const PerforatedConvBuffers& buffers, const PixelLists& lists,
                                 cudaStream_t stream);

}  // namespace pagdeploy
