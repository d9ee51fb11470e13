#include "perforated_conv/cpu/inactive.hpp"

#include <algorithm>
#include <cstring>

#include "perforated_conv/cpu/activation.hpp"

namespace pagdeploy::cpu {

namespace {

constexpr std::size_t kPixelsPerTask = 256;

}  // namespace

void fillInactive(const ConvCall& call, std::size_t outputs, int channels, Host& host) {
    const bool bends = call.mode == kModeAdd && call.inactive == Inactive::kDefine &&
                       !isIdentity(call.bend);
    const bool inPlace = call.y == call.base && !call.baseIsOneValue;
    if (call.count == outputs || call.inactive == Inactive::kDead || (inPlace && !bends)) {
        return;
    }
    const float value = call.baseIsOneValue ? *call.base : 0.0f;
    const float constant = bends ? bend(value, call.bend) : value;
    const auto fill = [&](std::size_t firstPixel, std::size_t endPixel) {
        const std::size_t first = firstPixel * channels;
        const std::size_t count = (endPixel - firstPixel) * channels;
        if (call.baseIsOneValue) {
            std::fill_n(call.y + first, count, constant);
        } else if (bends) {
            std::transform(call.base + first, call.base + first + count, call.y + first,
                           [by = call.bend](float shown) { return bend(shown, by); });
        } else {
            std::memcpy(call.y + first, call.base + first, count * sizeof(float));
        }
    };
    const std::int32_t* const end = call.pixels + call.count;
    host.parallelFor(ceilDivide(outputs, kPixelsPerTask), [&](std::size_t task) {
        std::size_t pixel = task * kPixelsPerTask;
        const std::size_t last = std::min(outputs, pixel + kPixelsPerTask);
        const auto* active = std::lower_bound(call.pixels, end, static_cast<std::int32_t>(pixel));
        for (; active != end && static_cast<std::size_t>(*active) < last; ++active) {
            fill(pixel, static_cast<std::size_t>(*active));
            pixel = static_cast<std::size_t>(*active) + 1;
        }
        fill(pixel, last);
    });
}

}  // namespace pagdeploy::cpu
