// The support of a perforated convolution: the input pixels that some active output pixel reads.
// A pixel-wise convolution in front of it needs to be evaluated there and nowhere else.
#pragma once

#include "perforated_conv/launch.hpp"

namespace pagdeploy {

std::size_t supportWorkspaceBytes(const PerforatedConvProblem& problem);

// Makes the list of the support of a problem of one branch. It serves a problem whose output is
// this one's input map, with fillInactive false where nothing else reads that tensor. Above a
// support of some 85 % the dense convolution is faster.
cudaError_t launchSupport(const PerforatedConvProblem& problem, const int* selection,
                          void* workspace, cudaStream_t stream, PixelLists* lists);

}  // namespace pagdeploy
