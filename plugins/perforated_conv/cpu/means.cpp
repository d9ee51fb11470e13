#include "perforated_conv/cpu/means.hpp"

#include <algorithm>

#include "common/host_device.hpp"

namespace pagdeploy::cpu {

namespace {

constexpr std::size_t kChannelsPerTask = 64;
// Sums of few pixels are summed: the error grows with the larger of both numbers, not their product.
constexpr std::size_t kPixelsPerSum = 64;

// The sums of some pixels; `channels` of each row of `width`.
void addRows(const float* row, std::size_t pixels, std::size_t width, std::size_t channels,
             float* sums) {
    std::fill_n(sums, channels, 0.0f);
    for (std::size_t pixel = 0; pixel < pixels; ++pixel, row += width) {
        for (std::size_t c = 0; c < channels; ++c) {
            sums[c] += row[c];
        }
    }
}

}  // namespace

void channelMeans(const MapSize& size, const float* from, float* to, Host& host) {
    const std::size_t blocks = ceilDivide(size.channels, kChannelsPerTask);
    host.parallelFor(size.images * blocks, [&](std::size_t task) {
        const std::size_t image = task / blocks;
        const std::size_t first = task % blocks * kChannelsPerTask;
        const std::size_t channels = std::min(kChannelsPerTask, size.channels - first);
        const float* rows = from + image * size.pixels * size.channels + first;
        float total[kChannelsPerTask] = {};
        float sums[kChannelsPerTask];
        for (std::size_t pixel = 0; pixel < size.pixels; pixel += kPixelsPerSum) {
            addRows(rows + pixel * size.channels, std::min(kPixelsPerSum, size.pixels - pixel),
                    size.channels, channels, sums);
            for (std::size_t c = 0; c < channels; ++c) {
                total[c] += sums[c];
            }
        }
        float* means = to + image * size.channels + first;
        for (std::size_t c = 0; c < channels; ++c) {
            means[c] = total[c] / static_cast<float>(size.pixels);
        }
    });
}

}  // namespace pagdeploy::cpu
