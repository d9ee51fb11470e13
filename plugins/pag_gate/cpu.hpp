// PAGGate on the CPU, and the lists of pixels that a selection stands for.
#pragma once

#include <cstdint>

#include "common/host.hpp"
#include "common/pixel_order.hpp"

namespace pagdeploy {

// selection[pixel] = the index of the largest of the pixel's logits; the lowest one wins a tie.
// `logits` is (N, branches, H, W), `selection` is (N, 1, H, W).
void selectBranches(const float* logits, const Grid& grid, int branches, std::int32_t* selection,
                    Host& host);

// Writes the indices of the pixels where selection == branch, ascending, and returns how many.
// `pixels` has room for all of them.
std::size_t listActivePixels(const std::int32_t* selection, std::size_t count, std::int32_t branch,
                             std::int32_t* pixels);

}  // namespace pagdeploy
