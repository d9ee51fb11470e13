// The op's activations as three numbers.
#pragma once

#include "perforated_conv/cpu/instruction_set.hpp"

namespace pagdeploy::cpu {

// The attributes `activation` and `alpha`, which checkAttributes() has accepted.
Bend bendOf(int activation, float alpha);

// One value through the activation.
float bend(float value, const Bend& by);

// Whether the activation changes nothing.
bool isIdentity(const Bend& by);

}  // namespace pagdeploy::cpu
