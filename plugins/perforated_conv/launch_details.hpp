// Steps of planning and launching that the launchers share.
#pragma once

#include "perforated_conv/cost.hpp"
#include "perforated_conv/params.hpp"

namespace pagdeploy {

cudaError_t describeDevice(DeviceTraits* device);

// The order in which the problem's lists are written.
PixelOrder orderOf(const PerforatedConvProblem& problem);

// Whether 16-byte copies may begin at the address, or at all of a convolution's addresses.
bool aligned(const void* pointer);
bool alignedForTiles(const PerforatedConvProblem& problem, const PerforatedConvBuffers& buffers);

ConvParams convParams(const PerforatedConvProblem& problem, const PerforatedConvBuffers& buffers,
                      const PixelLists& lists);

}  // namespace pagdeploy
