// The output pixels that no list names.
#pragma once

#include "perforated_conv/cpu/convolution.hpp"

namespace pagdeploy::cpu {

// Writes every one of `outputs` pixels that call.pixels leaves out, as call.inactive says.
void fillInactive(const ConvCall& call, std::size_t outputs, int channels, Host& host);

}  // namespace pagdeploy::cpu
