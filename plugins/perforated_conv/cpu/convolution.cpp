#include "perforated_conv/cpu/convolution.hpp"

#include <algorithm>
#include <cstring>

#include "perforated_conv/cpu/inactive.hpp"
#include "perforated_conv/cpu/input_rows.hpp"
#include "perforated_conv/cpu/tiles.hpp"

namespace pagdeploy::cpu {

namespace {

// A part of a panel that the row groups of a tile read one after the other: it stays in L2.
constexpr std::size_t kSliceBytes = 96 * 1024;
// More rows share the weights where there are many of those. Both are multiples of all tile rows.
constexpr int kTileRows = 96;
constexpr int kTileRowsOfWide = 144;
constexpr int kWideChannels = 512;
// Rows that lie a multiple of so many floats apart share one set of an L1 cache, and more of them
// than it has ways push each other out.
constexpr int kAliasedFloats = 1024;
constexpr int kAliasedRows = 8;
// A larger map is in no L2 cache, so its rows are asked for before they are read.
constexpr std::size_t kCachedMapBytes = 1024 * 1024;
constexpr int kDepthwiseTileRows = 128;
constexpr int kDepthwiseChannels = 256;

// Pointers and partial sums of the tile that a thread works on.
struct Scratch {
    std::vector<const float*> input;
    std::vector<float*> output;
    std::vector<const float*> base;
    std::vector<float> baseRow;
    GrowingFloats partial;
};

Scratch& scratch() {
    static thread_local Scratch ofThread;
    return ofThread;
}

}  // namespace

Convolution::Convolution(const KernelShape& shape, const float* weights, const float* bias,
                         const InstructionSet& isa)
    : shape_(shape),
      isa_(isa),
      weights_(shape, weights, bias, isa),
      zeros_(alignedFloats(static_cast<std::size_t>(shape.inputChannels))),
      slices_(slices()) {
    std::fill_n(zeros_.get(), shape.inputChannels, 0.0f);
}

std::vector<Convolution::Slice> Convolution::slices() const {
    const int taps = shape_.taps();
    const int depth = weights_.depth();
    const std::size_t channelBytes = static_cast<std::size_t>(isa_.panel) * sizeof(float);
    const auto most = static_cast<int>(kSliceBytes / channelBytes);  // channels of a slice
    std::vector<Slice> result;
    if (depth <= most) {
        const int parts = ceilDivide(taps, std::max(1, most / depth));
        const int each = ceilDivide(taps, parts);
        for (int tap = 0; tap < taps; tap += each) {
            result.push_back({tap, std::min(each, taps - tap), 0, depth});
        }
        return result;
    }
    const int each = ceilDivide(depth, ceilDivide(depth, most));
    for (int tap = 0; tap < taps; ++tap) {
        for (int k = 0; k < depth; k += each) {
            result.push_back({tap, 1, k, std::min(each, depth - k)});
        }
    }
    return result;
}

XApart::XApart(const ConvCall& call, std::size_t xSize, std::size_t ySize, Host& host)
    : x_(call.x) {
    if (call.x < call.y + ySize && call.y < call.x + xSize) {
        copy_.emplace(host, xSize);
        std::memcpy(copy_->data(), call.x, xSize * sizeof(float));
    }
}

void Convolution::run(const ConvCall& call, Host& host) const {
    const ConvGeometry geometry = shape_.over(call.input);
    const auto outputs = static_cast<std::size_t>(geometry.output.pixels());
    const std::size_t rows = call.compact ? call.count : outputs;
    const XApart x(call, inputSize(call), rows * shape_.outputChannels, host);
    ConvCall apart = call;
    apart.x = x.data();
    compute(apart, geometry, InactiveFill(apart, outputs, shape_.outputChannels), host);
}

int Convolution::panels() const {
    return weights_.isDepthwise() ? ceilDivide(shape_.outputChannels, kDepthwiseChannels)
                                  : weights_.panels();
}

int Convolution::mostTileRows() const {
    if (weights_.isDepthwise()) {
        return kDepthwiseTileRows;
    }
    return shape_.outputChannels >= kWideChannels ? kTileRowsOfWide : kTileRows;
}

bool Convolution::rowsAlias() const { return shape_.inputChannels % kAliasedFloats == 0; }

void Convolution::compute(const ConvCall& call, const ConvGeometry& geometry,
                          const InactiveFill& fill, Host& host) const {
    const Partition parts = partition(call.count, mostTileRows(),
                                      weights_.isDepthwise() ? 1 : isa_.rows, panels());
    const auto tasks = static_cast<std::size_t>(parts.rowTiles) * parts.panelTiles;
    // Threads begin with neighbouring tasks. If those share rows, each core reads in the next
    // convolution what it wrote itself; if they share panels, it reads fewer weights.
    const std::size_t rowBytes =
        sizeof(float) * call.count * (shape_.inputChannels + shape_.outputChannels);
    const bool sharesRows = rowBytes >= weights_.bytes();
    host.parallelFor(tasks + fill.tasks(), [&](std::size_t task) {
        if (task >= tasks) {
            return fill.run(task - tasks);
        }
        const std::size_t rowTile = sharesRows ? task / parts.panelTiles : task % parts.rowTiles;
        const std::size_t panelTile = sharesRows ? task % parts.panelTiles : task / parts.rowTiles;
        const std::size_t first = rowTile * parts.rows;
        const int panel = static_cast<int>(panelTile) * parts.panels;
        computeTile(call, geometry,
                    {first, static_cast<int>(std::min<std::size_t>(parts.rows, call.count - first)),
                     panel, std::min(panel + parts.panels, panels())});
    });
}

void Convolution::computeTile(const ConvCall& call, const ConvGeometry& geometry,
                              const Tile& tile) const {
    Scratch& mine = scratch();
    const auto rows = static_cast<std::size_t>(tile.rows);
    const auto channels = static_cast<std::size_t>(shape_.outputChannels);
    mine.input.resize(rows * shape_.taps());
    mine.output.resize(rows);
    const bool adds = call.mode == kModeAdd;
    mine.base.resize(adds ? rows : 0);
    if (adds && call.baseIsOneValue) {
        mine.baseRow.assign(channels, *call.base);
    }
    for (std::size_t r = 0; r < rows; ++r) {
        const std::size_t row = tile.firstRow + r;
        const std::size_t pixel = call.pixels != nullptr ? call.pixels[row] : row;
        mine.output[r] = call.y + (call.compact ? row - call.firstCompactRow : pixel) * channels;
        if (adds) {
            mine.base[r] = call.baseIsOneValue ? mine.baseRow.data() : call.base + pixel * channels;
        }
    }
    const RowSink sink{mine.output.data(), adds ? mine.base.data() : nullptr, call.bend};
    if (weights_.isDepthwise()) {
        fillInput(call, geometry, tile, kDepthwiseRows, mine.input.data());
        return depthwiseTile(tile, sink);
    }
    if (weights_.isNarrow()) {
        fillInput(call, geometry, tile, kNarrowRows, mine.input.data());
        return narrowTile(tile, sink);
    }
    // Even groups: 25 rows are 9, 8 and 8 rather than 12, 12 and 1.
    const int most = rowsAlias() ? std::min(isa_.rows, kAliasedRows) : isa_.rows;
    const int groupRows = ceilDivide(tile.rows, ceilDivide(tile.rows, most));
    fillInput(call, geometry, tile, groupRows, mine.input.data());
    // Rows inside of a pair come from L2 to L1, and that pays as well.
    const bool isFar = call.xIsCompact || inputSize(call) * sizeof(float) > kCachedMapBytes;
    multiplyTile(tile, groupRows, isFar && !rowsAlias(), sink);
}

// Groups of rows, and in each group [tap][row].
void Convolution::fillInput(const ConvCall& call, const ConvGeometry& geometry, const Tile& tile,
                            int groupRows, const float** to) const {
    if (isPointwise()) {  // a pixel reads itself
        const std::ptrdiff_t channels = shape_.inputChannels;
        for (int r = 0; r < tile.rows; ++r) {
            const std::size_t row = tile.firstRow + r;
            const std::size_t pixel = call.pixels != nullptr ? call.pixels[row] : row;
            to[r] = call.x + (call.xIsCompact ? row - call.firstCompactRow : pixel) * channels;
        }
        return;
    }
    InputRows<float>{call.x, zeros_.get(), call.pixels, tile.firstRow, tile.rows, groupRows}.fill(
        shape_, geometry, to);
}

void Convolution::multiplyTile(const Tile& tile, int groupRows, bool fetches,
                               const RowSink& sink) const {
    Scratch& mine = scratch();
    const std::size_t panels = tile.endPanel - tile.firstPanel;
    const std::size_t panelSums = static_cast<std::size_t>(tile.rows) * isa_.panel;
    float* const partial = slices_.size() > 1 ? mine.partial.sized(panels * panelSums) : nullptr;
    const int perGroup = shape_.outputChannels / shape_.groups;
    const int taps = shape_.taps();
    TileProduct product{};
    product.tapStride = static_cast<std::ptrdiff_t>(weights_.depth()) * isa_.panel;
    for (std::size_t s = 0; s < slices_.size(); ++s) {
        const Slice& slice = slices_[s];
        product.taps = slice.taps;
        product.depth = slice.channels;
        for (int panel = tile.firstPanel; panel < tile.endPanel; ++panel) {
            const int group = panel / weights_.panelsPerGroup();
            const int column = (panel - group * weights_.panelsPerGroup()) * isa_.panel;
            product.columns = std::min(isa_.panel, perGroup - column);
            product.firstColumn = static_cast<std::ptrdiff_t>(group) * perGroup + column;
            product.inputOffset =
                static_cast<std::ptrdiff_t>(group) * weights_.depth() + slice.firstChannel;
            product.weights = weights_.panel(panel) + slice.firstTap * product.tapStride +
                              static_cast<std::ptrdiff_t>(slice.firstChannel) * isa_.panel;
            product.bias = s == 0 ? weights_.panelBias(panel) : nullptr;
            for (int first = 0; first < tile.rows; first += groupRows) {
                product.rows = std::min(groupRows, tile.rows - first);
                product.input = mine.input.data() + static_cast<std::size_t>(first) * taps +
                                static_cast<std::size_t>(slice.firstTap) * product.rows;
                // The first panel brings the rows into the cache; a last, smaller group is left.
                const bool brings = panel == tile.firstPanel && first + 2 * groupRows <= tile.rows;
                product.next = fetches && brings ? product.input + product.rows * taps : nullptr;
                if (partial != nullptr) {
                    product.partial = partial + (panel - tile.firstPanel) * panelSums +
                                      static_cast<std::size_t>(first) * isa_.panel;
                }
                const RowSink here{sink.output + first,
                                   sink.base != nullptr ? sink.base + first : nullptr, sink.bend};
                product.sink = s + 1 == slices_.size() ? &here : nullptr;
                isa_.multiply(product);
            }
        }
    }
}

void Convolution::depthwiseTile(const Tile& tile, const RowSink& sink) const {
    const int first = tile.firstPanel * kDepthwiseChannels;
    const int end = std::min(tile.endPanel * kDepthwiseChannels, shape_.outputChannels);
    isa_.depthwise({tile.rows, shape_.taps(), shape_.outputChannels, scratch().input.data(),
                    weights_.panel(0), weights_.panelBias(0), sink, first, end});
}

void Convolution::narrowTile(const Tile& tile, const RowSink& sink) const {
    isa_.narrow({tile.rows, shape_.taps(), shape_.inputChannels, shape_.outputChannels,
                 scratch().input.data(), weights_.panel(0), weights_.panelBias(0), sink});
}

}  // namespace pagdeploy::cpu
