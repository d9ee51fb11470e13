// The mean over each channel of a map, channels last.
#pragma once

#include "common/host.hpp"
#include "perforated_conv/cpu/layout.hpp"

namespace pagdeploy::cpu {

// (N, pixels, C) to (N, C). A channel of no pixels is NaN, as a sum of nothing over nothing is.
void channelMeans(const MapSize& size, const float* from, float* to, Host& host);

}  // namespace pagdeploy::cpu
