#include "perforated_conv/cpu/layout.hpp"

#include <algorithm>

#include "common/host_device.hpp"
#include "perforated_conv/cpu/activation.hpp"

namespace pagdeploy::cpu {

namespace {

// 64 KB on either side: what is read and what is written stay in the L2 cache together.
constexpr std::size_t kPixelsPerTask = 64;
constexpr std::size_t kChannelsPerTask = 256;

// Blocks of `pixels` and `channels`, neighbouring ones of the same pixels.
template <typename Turn>
void forEachBlock(const MapSize& size, Host& host, Turn&& turn) {
    const std::size_t across = ceilDivide(size.channels, kChannelsPerTask);
    const std::size_t down = ceilDivide(size.pixels, kPixelsPerTask);
    host.parallelFor(size.images * down * across, [&](std::size_t task) {
        const std::size_t channel = task % across * kChannelsPerTask;
        const std::size_t pixel = task / across % down * kPixelsPerTask;
        turn(task / across / down * size.channels * size.pixels, pixel,
             static_cast<int>(std::min(kPixelsPerTask, size.pixels - pixel)), channel,
             static_cast<int>(std::min(kChannelsPerTask, size.channels - channel)));
    });
}

}  // namespace

void toChannelsLast(const MapSize& size, const float* from, const Bend& bend, float* to,
                    const InstructionSet& isa, Host& host) {
    const auto channelStep = static_cast<std::ptrdiff_t>(size.pixels);
    const auto pixelStep = static_cast<std::ptrdiff_t>(size.channels);
    const bool bends = !isIdentity(bend);
    forEachBlock(size, host, [&](std::size_t image, std::size_t pixel, int pixels,
                                 std::size_t channel, int channels) {
        isa.transpose({from + image + channel * size.pixels + pixel, channelStep, channels, pixels,
                       to + image + pixel * size.channels + channel, pixelStep, bends, bend});
    });
}

void toChannelsFirst(const MapSize& size, const float* from, float* to, const InstructionSet& isa,
                     Host& host) {
    const auto channelStep = static_cast<std::ptrdiff_t>(size.pixels);
    const auto pixelStep = static_cast<std::ptrdiff_t>(size.channels);
    forEachBlock(size, host, [&](std::size_t image, std::size_t pixel, int pixels,
                                 std::size_t channel, int channels) {
        isa.transpose({from + image + pixel * size.channels + channel, pixelStep, pixels, channels,
                       to + image + channel * size.pixels + pixel, channelStep, false, {}});
    });
}

}  // namespace pagdeploy::cpu
