#include "perforated_conv/cpu/inactive.hpp"

#include <algorithm>
#include <cstring>

#include "perforated_conv/cpu/activation.hpp"

namespace pagdeploy::cpu {

namespace {

constexpr std::size_t kFloatsPerTask = 64 * 1024;

}  // namespace

InactiveFill::InactiveFill(const ConvCall& call, std::size_t outputs, int channels)
    : call_(call),
      outputs_(outputs),
      channels_(static_cast<std::size_t>(channels)),
      bends_(call.mode == kModeAdd && call.inactive == Inactive::kDefine &&
             !isIdentity(call.bend)),
      pixelsPerTask_(std::max<std::size_t>(1, kFloatsPerTask / channels_)) {
    const bool inPlace = call.y == call.base && !call.baseIsOneValue;
    if (call.compact || call.count == outputs || call.inactive == Inactive::kDead ||
        (inPlace && !bends_)) {
        return;
    }
    if (call.baseIsOneValue) {
        constant_ = bends_ ? bend(*call.base, call.bend) : *call.base;
    }
    tasks_ = ceilDivide(outputs, pixelsPerTask_);
}

void InactiveFill::fill(std::size_t firstPixel, std::size_t endPixel) const {
    const std::size_t first = firstPixel * channels_;
    const std::size_t count = (endPixel - firstPixel) * channels_;
    if (call_.baseIsOneValue) {
        std::fill_n(call_.y + first, count, constant_);
    } else if (bends_ && call_.bend.slope == 1.0f) {
        const float* base = call_.base + first;
        float* y = call_.y + first;
        const float low = call_.bend.low;
        const float high = call_.bend.high;
        for (std::size_t i = 0; i < count; ++i) {  // of two choices, which is a vector's loop
            const float raised = base[i] < low ? low : base[i];
            y[i] = raised > high ? high : raised;
        }
    } else if (bends_) {
        std::transform(call_.base + first, call_.base + first + count, call_.y + first,
                       [by = call_.bend](float shown) { return bend(shown, by); });
    } else {
        std::memcpy(call_.y + first, call_.base + first, count * sizeof(float));
    }
}

void InactiveFill::run(std::size_t task) const {
    std::size_t pixel = task * pixelsPerTask_;
    const std::size_t last = std::min(outputs_, pixel + pixelsPerTask_);
    const std::int32_t* const end = call_.pixels + call_.count;
    const auto* active = std::lower_bound(call_.pixels, end, static_cast<std::int32_t>(pixel));
    for (; active != end && static_cast<std::size_t>(*active) < last; ++active) {
        fill(pixel, static_cast<std::size_t>(*active));
        pixel = static_cast<std::size_t>(*active) + 1;
    }
    fill(pixel, last);
}

}  // namespace pagdeploy::cpu
