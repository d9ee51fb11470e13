#include "perforated_conv/cpu/quantized_convolution.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <optional>

#include "perforated_conv/cpu/input_rows.hpp"
#include "perforated_conv/cpu/tiles.hpp"

namespace pagdeploy::cpu {

namespace {

// A multiple of every set's rows; the bytes of a panel stay in the L2 cache beside them.
constexpr int kTileRows = 96;
constexpr std::size_t kPixelsPerTask = 1024;

// Pointers of the tile that a thread works on.
struct Scratch {
    std::vector<const std::uint8_t*> input;
    std::vector<std::uint8_t*> bytes;
    std::vector<float*> floats;
    std::vector<const std::uint8_t*> base;
    std::vector<std::uint8_t> baseRow;
};

Scratch& scratch() {
    static thread_local Scratch ofThread;
    return ofThread;
}

float valueOf(const Units& units, std::uint8_t byte) {
    return static_cast<float>(byte - units.zero) * units.step;
}

}  // namespace

QuantizedConvolution::QuantizedConvolution(const KernelShape& shape, const std::int8_t* weights,
                                           const std::int32_t* bias, const float* scales,
                                           const QuantizedForm& form, const QuantizedSet& isa)
    : shape_(shape),
      form_(form),
      isa_(isa),
      panels_(ceilDivide(shape.outputChannels, isa.panel)),
      tapBytes_(static_cast<std::size_t>(ceilDivide(shape.inputChannels, kQuad)) * isa.panel *
                kQuad),
      panelBytes_(tapBytes_ * shape.taps()),
      outside_(static_cast<std::size_t>(shape.inputChannels),
               static_cast<std::uint8_t>(form.x.zero)) {
    pack(weights, bias, scales);
    showsBase_ = !form.givesFloats;
    for (int byte = 0; byte < 256; ++byte) {
        const auto base = static_cast<std::uint8_t>(byte);
        shownFloats_[byte] = shownFloat(base);
        shownBytes_[byte] = form.givesFloats ? base : shownByte(base);
        showsBase_ = showsBase_ && shownBytes_[byte] == base;
    }
}

void QuantizedConvolution::pack(const std::int8_t* weights, const std::int32_t* bias,
                                const float* scales) {
    const int taps = shape_.taps();
    const int depth = shape_.inputChannels;
    const std::size_t bytes = panelBytes_ * panels_;
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, std::max<std::size_t>(bytes, 1)) != 0) {
        throw std::bad_alloc();
    }
    weights_.reset(static_cast<std::int8_t*>(memory));
    std::memset(memory, 0, bytes);
    bias_.assign(static_cast<std::size_t>(panels_) * isa_.panel, 0);
    scale_.assign(bias_.size(), 0.0f);
    for (int m = 0; m < shape_.outputChannels; ++m) {
        const int panel = m / isa_.panel;
        const int column = m % isa_.panel;
        const std::int8_t* from = weights + static_cast<std::size_t>(m) * depth * taps;
        std::int8_t* to = weights_.get() + panel * panelBytes_;
        std::int64_t sum = 0;
        for (int tap = 0; tap < taps; ++tap) {
            for (int k = 0; k < depth; ++k) {
                const std::int8_t weight = from[static_cast<std::size_t>(k) * taps + tap];
                to[tap * tapBytes_ +
                   (static_cast<std::size_t>(k / kQuad) * isa_.panel + column) * kQuad +
                   k % kQuad] = weight;
                sum += weight;
            }
        }
        // It wraps as the sums do: modulo 2^32 the total is right.
        bias_[m] = static_cast<std::int32_t>(static_cast<std::uint32_t>(
            static_cast<std::int64_t>(bias[m]) - form_.x.zero * sum));
        const float product = form_.x.step * scales[m];
        const bool direct = form_.mode == kModeReplace && !form_.givesFloats;
        scale_[m] = direct ? product / form_.y.step : product;
    }
}

float QuantizedConvolution::shownFloat(std::uint8_t base) const {
    const float value = valueOf(form_.base, base);
    return form_.mode == kModeAdd && form_.relu && value < 0.0f ? 0.0f : value;
}

std::uint8_t QuantizedConvolution::shownByte(std::uint8_t base) const {
    if (form_.mode == kModeReplace) {
        return base;
    }
    const float steps = shownFloat(base) / form_.y.step;
    const auto zero = static_cast<float>(form_.y.zero);
    return static_cast<std::uint8_t>(
        std::nearbyint(std::min(std::max(steps, -zero), 255.0f - zero)) + zero);
}

void QuantizedConvolution::run(const QuantizedCall& given, Host& host) const {
    const ConvGeometry geometry = shape_.over(given.input);
    const auto outputs = static_cast<std::size_t>(geometry.output.pixels());
    const std::size_t ySize = outputs * shape_.outputChannels;
    const std::size_t xSize =
        static_cast<std::size_t>(given.input.pixels()) * shape_.inputChannels;
    QuantizedCall call = given;
    std::optional<HostArray<std::uint8_t>> apart;
    if (call.bytes != nullptr && call.x < call.bytes + ySize && call.bytes < call.x + xSize) {
        apart.emplace(host, xSize);
        std::memcpy(apart->data(), call.x, xSize);
        call.x = apart->data();
    }
    const Partition parts = partition(call.count, kTileRows, isa_.rows, panels_);
    const auto tasks = static_cast<std::size_t>(parts.rowTiles) * parts.panelTiles;
    const bool inPlace = call.bytes != nullptr && call.bytes == call.base &&
                         !call.baseIsOneValue && showsBase_;
    const bool fills = call.count != outputs && !call.inactiveAreDead && !inPlace;
    const std::size_t fillTasks = fills ? ceilDivide(outputs, kPixelsPerTask) : 0;
    host.parallelFor(tasks + fillTasks, [&](std::size_t task) {
        if (task >= tasks) {
            const std::size_t first = (task - tasks) * kPixelsPerTask;
            return fillInactive(call, first, std::min(outputs, first + kPixelsPerTask));
        }
        const std::size_t first = task / parts.panelTiles * parts.rows;
        const int panel = static_cast<int>(task % parts.panelTiles) * parts.panels;
        computeTile(call, geometry,
                    {first, static_cast<int>(std::min<std::size_t>(parts.rows, call.count - first)),
                     panel, std::min(panel + parts.panels, panels_)});
    });
}

void QuantizedConvolution::computeTile(const QuantizedCall& call, const ConvGeometry& geometry,
                                       const Tile& tile) const {
    Scratch& mine = scratch();
    const auto rows = static_cast<std::size_t>(tile.rows);
    const auto channels = static_cast<std::size_t>(shape_.outputChannels);
    const bool adds = form_.mode == kModeAdd;
    mine.input.resize(rows * shape_.taps());
    mine.bytes.resize(form_.givesFloats ? 0 : rows);
    mine.floats.resize(form_.givesFloats ? rows : 0);
    mine.base.resize(adds ? rows : 0);
    if (adds && call.baseIsOneValue) {
        mine.baseRow.assign(channels, *call.base);
    }
    for (std::size_t r = 0; r < rows; ++r) {
        const std::size_t row = tile.firstRow + r;
        const std::size_t at = (call.pixels != nullptr ? call.pixels[row] : row) * channels;
        if (form_.givesFloats) {
            mine.floats[r] = call.floats + at;
        } else {
            mine.bytes[r] = call.bytes + at;
        }
        if (adds) {
            mine.base[r] = call.baseIsOneValue ? mine.baseRow.data() : call.base + at;
        }
    }
    // Even groups: 25 rows are 9, 8 and 8 rather than 12, 12 and 1.
    const int groupRows = ceilDivide(tile.rows, ceilDivide(tile.rows, isa_.rows));
    InputRows<std::uint8_t>{call.x, outside_.data(), call.pixels, tile.firstRow, tile.rows,
                            groupRows}
        .fill(shape_, geometry, mine.input.data());

    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const auto zero = static_cast<float>(form_.y.zero);
    QuantizedSink sink{};
    sink.baseUnits = form_.base;
    sink.units = form_.y;
    sink.low = form_.relu ? 0.0f : form_.givesFloats ? -kInfinity : -zero;
    sink.high = form_.givesFloats ? kInfinity : 255.0f - zero;
    QuantizedProduct product{};
    product.taps = shape_.taps();
    product.depth = shape_.inputChannels;
    product.sink = &sink;
    for (int panel = tile.firstPanel; panel < tile.endPanel; ++panel) {
        product.firstColumn = static_cast<std::ptrdiff_t>(panel) * isa_.panel;
        product.columns =
            std::min(isa_.panel, shape_.outputChannels - static_cast<int>(product.firstColumn));
        product.weights = weights_.get() + panel * panelBytes_;
        product.bias = bias_.data() + product.firstColumn;
        product.scale = scale_.data() + product.firstColumn;
        for (int first = 0; first < tile.rows; first += groupRows) {
            product.rows = std::min(groupRows, tile.rows - first);
            product.input = mine.input.data() + static_cast<std::size_t>(first) * shape_.taps();
            sink.bytes = form_.givesFloats ? nullptr : mine.bytes.data() + first;
            sink.floats = form_.givesFloats ? mine.floats.data() + first : nullptr;
            sink.base = adds ? mine.base.data() + first : nullptr;
            isa_.multiply(product);
        }
    }
}

void QuantizedConvolution::fillInactive(const QuantizedCall& call, std::size_t first,
                                        std::size_t end) const {
    const auto channels = static_cast<std::size_t>(shape_.outputChannels);
    const auto fill = [&](std::size_t from, std::size_t count) {
        const std::uint8_t* base = call.baseIsOneValue ? call.base : call.base + from;
        if (form_.givesFloats) {
            if (call.baseIsOneValue) {
                std::fill_n(call.floats + from, count, shownFloats_[*base]);
            } else {
                std::transform(base, base + count, call.floats + from,
                               [&](std::uint8_t byte) { return shownFloats_[byte]; });
            }
        } else if (call.baseIsOneValue) {
            std::memset(call.bytes + from, shownBytes_[*base], count);
        } else if (showsBase_) {
            std::memcpy(call.bytes + from, base, count);
        } else {
            std::transform(base, base + count, call.bytes + from,
                           [&](std::uint8_t byte) { return shownBytes_[byte]; });
        }
    };
    std::size_t pixel = first;
    const std::int32_t* const last = call.pixels + call.count;
    const auto* active = std::lower_bound(call.pixels, last, static_cast<std::int32_t>(pixel));
    for (; active != last && static_cast<std::size_t>(*active) < end; ++active) {
        const auto next = static_cast<std::size_t>(*active);
        fill(pixel * channels, (next - pixel) * channels);
        pixel = next + 1;
    }
    fill(pixel * channels, (end - pixel) * channels);
}

}  // namespace pagdeploy::cpu
