#include "perforated_conv/cpu/activation.hpp"

#include <cmath>
#include <limits>

#include "perforated_conv/geometry.hpp"

namespace pagdeploy::cpu {

Bend bendOf(int activation, float alpha) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    switch (activation) {
        case kActivationRelu:
            return {1.0f, 0.0f, kInfinity};
        case kActivationRelu6:
            return {1.0f, 0.0f, 6.0f};
        case kActivationLeakyRelu:
            return {alpha, -kInfinity, kInfinity};
        default:
            return {1.0f, -kInfinity, kInfinity};
    }
}

float bend(float value, const Bend& by) {
    const float scaled = value < 0.0f ? value * by.slope : value;
    const float raised = scaled < by.low ? by.low : scaled;
    return raised > by.high ? by.high : raised;
}

bool isIdentity(const Bend& by) {
    return by.slope == 1.0f && std::isinf(by.low) && std::isinf(by.high);
}

}  // namespace pagdeploy::cpu
