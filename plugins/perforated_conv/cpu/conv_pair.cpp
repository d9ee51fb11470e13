#include "perforated_conv/cpu/conv_pair.hpp"

#include <algorithm>

#include "perforated_conv/cpu/inactive.hpp"
#include "perforated_conv/cpu/tiles.hpp"

namespace pagdeploy::cpu {

namespace {

// Weights that stay in the L2 cache beside a tile: any number of tiles may read them.
constexpr std::size_t kCachedWeights = 256 * 1024;
constexpr int kLeastRows = 4;
constexpr int kMostRowsOfDepthwise = 64;

float* innerRows(std::size_t count) {
    static thread_local GrowingFloats ofThread;
    return ofThread.sized(count);
}

}  // namespace

int ConvPair::tileRows(std::size_t rows) const {
    const int count = static_cast<int>(rows);
    const int most = first_->weights_.isDepthwise()
                         ? kMostRowsOfDepthwise
                         : std::min(first_->mostTileRows(), second_->mostTileRows());
    const bool cached = first_->weights_.bytes() + second_->weights_.bytes() <= kCachedWeights;
    int tiles = std::max(1, ceilDivide(count, most));
    if (cached) {
        tiles = std::max(tiles, std::min(ceilDivide(count, kLeastRows), kWantedTasks));
    }
    return cached || tiles >= kWantedTasks ? std::max(1, ceilDivide(count, tiles)) : 0;
}

void ConvPair::run(const ConvCall& call, const Bend& inner, Host& host) const {
    const ConvGeometry geometry = first_->shape_.over(call.input);
    const ConvGeometry behind = second_->shape_.over(geometry.output);
    const auto outputs = static_cast<std::size_t>(geometry.output.pixels());
    const int channels = second_->shape_.outputChannels;
    const XApart x(call, first_->inputSize(call), outputs * channels, host);
    const InactiveFill fill(call, outputs, channels);
    const ConvCall before{call.input, x.data(), call.pixels, call.count, nullptr, true,
                          kModeReplace, inner, Inactive::kDead, nullptr, true};
    const auto width = static_cast<std::size_t>(first_->shape_.outputChannels);
    const auto through = [&](float* rows, std::size_t firstRow, auto&& compute) {
        ConvCall one = before;
        one.y = rows;
        ConvCall two = call;
        two.input = geometry.output;
        two.x = rows;
        two.xIsCompact = true;
        one.firstCompactRow = two.firstCompactRow = firstRow;
        compute(*first_, one, geometry);
        compute(*second_, two, behind);
    };
    const std::size_t each = tileRows(call.count);
    if (each == 0) {
        HostArray<float> rows(host, call.count * width);
        const InactiveFill nothing(before, outputs, channels);
        return through(rows.data(), 0,
                       [&](const Convolution& convolution, const ConvCall& here,
                           const ConvGeometry& over) {
                           const bool isLast = &convolution == second_.get();
                           convolution.compute(here, over, isLast ? fill : nothing, host);
                       });
    }
    const std::size_t tiles = ceilDivide(call.count, each);
    host.parallelFor(tiles + fill.tasks(), [&](std::size_t task) {
        if (task >= tiles) {
            return fill.run(task - tiles);
        }
        const std::size_t firstRow = task * each;
        const auto count = static_cast<int>(std::min(each, call.count - firstRow));
        through(innerRows(count * width), firstRow,
                [&](const Convolution& convolution, const ConvCall& here,
                    const ConvGeometry& over) {
                    convolution.computeTile(here, over,
                                            {firstRow, count, 0, convolution.panels()});
                });
    });
}

}  // namespace pagdeploy::cpu
