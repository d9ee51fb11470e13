// Host side of the fused tail of a bottleneck: 3x3 and 1x1 over one list, in one launch.
#pragma once

#include "perforated_conv/launch.hpp"

namespace pagdeploy {

// The pointwise convolution reads at its active pixels what the gathered one computes there; both
// have the same selection of one branch. The gathered convolution's mode, base and output are
// ignored: its result is never stored.
struct FusedTailProblem {
    PerforatedConvProblem gathered;
    PerforatedConvProblem pointwise;
};

// A sentence that says why the two cannot be fused, or nullptr.
const char* faultOf(const FusedTailProblem& problem);

struct FusedTailPlan {
    int variant;  // row of fused_variants.inc
    int blocks;
    int sharedBytes;
    PixelOrder order;
};

// cudaErrorNotSupported where no variant has the number of middle channels, or the device lacks
// the shared memory: launch the two convolutions then.
cudaError_t planFusedTail(const FusedTailProblem& problem, FusedTailPlan* plan);

std::size_t fusedTailWorkspaceBytes(const FusedTailProblem& problem);

// Input, weights and bias of the gathered convolution; everything of the pointwise one but its
// input, and its selection and workspace for the lists.
cudaError_t launchFusedTail(const FusedTailProblem& problem, const FusedTailPlan& plan,
                            const PerforatedConvBuffers& gathered,
                            const PerforatedConvBuffers& pointwise, cudaStream_t stream);

}  // namespace pagdeploy
