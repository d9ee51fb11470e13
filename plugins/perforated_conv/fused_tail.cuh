// The second half of a perforated bottleneck in one kernel: a gathered convolution (3x3, M to M
// channels) with bias and activation, whose result stays in shared memory as the left operand of a
// 1x1 (M to C channels) with bias, base, activation and scatter. The middle tensor never reaches
// device memory. One block owns a tile's rows and all C channels, so the kernel needs a tile of
// rows for every multiprocessor; with fewer rows two separate launches spread better.
//
// Output and base may be one buffer: the base is read only where the output is written, and the
// gathered input is another tensor.
#pragma once

#include "perforated_conv/kernel.cuh"

namespace pagdeploy {

struct FusedTailParams {
    ConvParams gathered;
    ConvParams pointwise;
};

// kStrip output channels of the 1x1 are computed at a time.
template <typename Element_, int kMiddle_, int kRows_, int kStrip_, int kWarpsDown,
          int kWarpsAcross, int kStages_>
struct FusedTailShape {
    using Element = Element_;
    using Gathered =
        TensorCoreTile<Element, kRows_, kMiddle_, kWarpsDown, kWarpsAcross, kStages_, 1>;
    using Pointwise =
        TensorCoreTile<Element, kRows_, kStrip_, kWarpsDown, kWarpsAcross, kStages_, 1>;
    static constexpr int kMiddle = kMiddle_;
    static constexpr int kRows = kRows_;
    static constexpr int kStrip = kStrip_;
    static constexpr int kStages = kStages_;
    static constexpr int kThreads = kWarpsDown * kWarpsAcross * 32;
    static constexpr int kElementsPerChunk = kTileRowBytes / int(sizeof(Element));
    static constexpr int kMiddleChunks = kMiddle / kElementsPerChunk;
    static constexpr int kChunkTileBytes = kRows * kTileRowBytes;

    static constexpr int kGatheredStage = (kRows + kMiddle) * kTileRowBytes;
    static constexpr int kPointwiseStage = kStrip * kTileRowBytes;
    static constexpr int kSumStride = kStrip + 8;
    static constexpr int kStagesOffset = kMiddleChunks * kChunkTileBytes;
    static constexpr int kSumsOffset = kStagesOffset + kStages * kPointwiseStage;
    static constexpr int kTableOffset = larger(kStagesOffset + kStages * kGatheredStage,
                                               kSumsOffset + kRows * kSumStride * 4);
    static_assert(sizeof(Element) == 2, "the middle is rounded to a two-byte type");
    static_assert(kMiddle % kElementsPerChunk == 0, "whole chunks of the middle");

    static constexpr int bytes(int taps) { return kTableOffset + RowTable::bytes(taps, kRows); }
};

// Bias and activation of the gathered convolution, rounded and laid out as a left operand.
template <typename Shape>
PAG_DEVICE void storeMiddle(const ConvParams& params, const typename Shape::Gathered& product,
                            unsigned char* middle) {
    using Element = typename Shape::Element;
    const auto* const bias = static_cast<const Element*>(params.bias[0]);
    product.forEachPair([&](int row, int column, float first, float second) {
        const Element pair[2] = {
            fromFloat<Element>(activate(first + toFloat(bias[column]), params.activation,
                                        params.alpha)),
            fromFloat<Element>(activate(second + toFloat(bias[column + 1]), params.activation,
                                        params.alpha))};
        std::uint32_t word;
        memcpy(&word, pair, sizeof word);
        const int within = column % Shape::kElementsPerChunk;
        const int byte = within * int(sizeof(Element));
        unsigned char* const tile =
            middle + column / Shape::kElementsPerChunk * Shape::kChunkTileBytes;
        storeVector(tile + swizzledOffset(row, byte / kChunkBytes) + byte % kChunkBytes, word);
    });
}

// The weights of the 1x1, strip after strip and chunk after chunk without a pause in between.
template <typename Shape>
struct StripLoader {
    static constexpr int kRowStep = Shape::kThreads / kChunksPerRow;
    static_assert(Shape::kStrip % kRowStep == 0, "whole rows in each pass");

    const char* weights;
    std::size_t outputBytes;
    int channels;
    int step;

    PAG_DEVICE void load(unsigned char* stage) {
        const int strip = step / Shape::kMiddleChunks;
        const int chunkOfMiddle = step - strip * Shape::kMiddleChunks;
        const int chunk = int(threadIdx.x) % kChunksPerRow;
        const int byte = chunkOfMiddle * kTileRowBytes + chunk * kChunkBytes;
        PAG_UNROLL
        for (int i = 0; i < Shape::kStrip / kRowStep; ++i) {
            const int column = int(threadIdx.x) / kChunksPerRow + i * kRowStep;
            const int channel = strip * Shape::kStrip + column;
            const bool valid = channel < channels;
            copyAsync<Reuse::kBypassL1>(
                stage + swizzledOffset(column, chunk),
                valid ? weights + std::size_t(channel) * outputBytes + byte : weights, valid);
        }
        ++step;
    }
};

template <typename Shape>
PAG_DEVICE void multiplyStrips(const ConvParams& params, const Tile& tile, const RowTable& rows,
                               unsigned char* shared) {
    using Element = typename Shape::Element;
    constexpr int kStages = Shape::kStages;
    const int channels = params.geometry.outputChannels;
    const int strips = ceilDivide(channels, Shape::kStrip);
    const int steps = strips * Shape::kMiddleChunks;
    StripLoader<Shape> loader{static_cast<const char*>(params.weights[0]),
                              std::size_t(params.weightOutputStride) * sizeof(Element), channels,
                              0};
    unsigned char* const stages = shared + Shape::kStagesOffset;
    float* const sums = reinterpret_cast<float*>(shared + Shape::kSumsOffset);
    for (int stage = 0; stage < kStages - 1; ++stage) {
        if (stage < steps) {
            loader.load(stages + stage * Shape::kPointwiseStage);
        }
        commitCopies();
    }
    int reading = 0;
    int writing = kStages - 1;
    int step = 0;
    for (int strip = 0; strip < strips; ++strip) {
        typename Shape::Pointwise product;
        product.clear();
        for (int chunk = 0; chunk < Shape::kMiddleChunks; ++chunk, ++step) {
            waitForCopies<kStages - 2>();
            // The stage has landed, the middle is complete, and the strip before has been written.
            __syncthreads();
            if (step + kStages - 1 < steps) {
                loader.load(stages + writing * Shape::kPointwiseStage);
            }
            commitCopies();
            product.multiply(shared + chunk * Shape::kChunkTileBytes,
                             stages + reading * Shape::kPointwiseStage);
            reading = reading + 1 == kStages ? 0 : reading + 1;
            writing = writing + 1 == kStages ? 0 : writing + 1;
        }
        storeSums<Shape::kSumStride>(product, sums);
        __syncthreads();
        Tile stripTile = tile;
        stripTile.firstColumn = strip * Shape::kStrip;
        writeRows<Element, Shape::kStrip, Shape::kSumStride, Shape::kThreads>(params, stripTile,
                                                                              sums, rows);
    }
    waitForCopies<0>();  // the next tile's row table begins with a barrier
}

template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    fusedTail(const __grid_constant__ FusedTailParams params) {
    using Element = typename Shape::Element;
    PAG_DYNAMIC_SHARED(shared);
    const ConvParams& gathered = params.gathered;
    const RowTable rows =
        RowTable::at(shared + Shape::kTableOffset, gathered.geometry.taps(), Shape::kRows);
    const TileSchedule schedule{Shape::kRows, Shape::kMiddle, 1, Shape::kMiddle};
    auto rowsOf = [&](int branch) { return gathered.tileRowsOf(branch); };
    const int tiles = schedule.tiles(1, rowsOf);
    int index = int(blockIdx.x);
    for (; index < tiles; index += int(gridDim.x)) {
        const Tile tile = schedule.tile(index, 1, rowsOf);
        rows.template build<Shape::kRows, Shape::kThreads>(gathered, tile);
        {
            StageLoader<Element, Shape::kRows, Shape::kMiddle, Shape::kThreads> loader(
                gathered, tile, rows);
            typename Shape::Gathered product;
            multiplyStages<Shape::kGatheredStage, Shape::kChunkTileBytes>(
                product, loader, loader.steps(), shared + Shape::kStagesOffset);
            storeMiddle<Shape>(gathered, product, shared);
        }
        // The barrier in front of the first strip's product completes the middle.
        multiplyStrips<Shape>(params.pointwise, tile, rows, shared);
    }
    if (params.pointwise.fillInactive != 0) {
        fillInactive<Element, Shape::kThreads>(params.pointwise, index - tiles);
    }
}

}  // namespace pagdeploy
