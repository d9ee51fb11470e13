// PerforatedConv on the CPU as the op table defines it: channels first, every pixel written.
#pragma once

#include "perforated_conv/cpu/convolution.hpp"

namespace pagdeploy::cpu {

struct NchwCall {
    Grid input;
    const float* x;                  // (N, C, H, W)
    const std::int32_t* selection;   // (N, 1, Ho, Wo), or (N, 1, 1, 1)
    bool selectionIsPerImage;
    std::int32_t branch;
    const float* base;  // (N, M, Ho, Wo), which may be y itself; or one value
    bool baseIsOneValue;
    int mode;
    Bend bend;
    float* y;  // (N, M, Ho, Wo), not over x
};

// X is laid out channels last, active pixels are computed side by side, and each plane of Y is
// written once. The two copies are what the channels-last form saves.
void runNchw(const Convolution& convolution, const NchwCall& call, Host& host);

}  // namespace pagdeploy::cpu
