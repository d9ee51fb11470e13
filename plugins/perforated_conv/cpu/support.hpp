// The support of some output pixels: the input pixels that their kernel windows read.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/host.hpp"
#include "perforated_conv/geometry.hpp"

namespace pagdeploy::cpu {

// Writes the indices of the input pixels that a tap of some listed output pixel reads, ascending,
// and returns how many. `support` has room for all input pixels; `outputs` are in range.
std::size_t listSupport(const ConvGeometry& geometry, const BranchGeometry& reach,
                        const std::int32_t* outputs, std::size_t count, std::int32_t* support,
                        Host& host);

}  // namespace pagdeploy::cpu
