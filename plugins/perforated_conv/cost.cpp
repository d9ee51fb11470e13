#include "perforated_conv/cost.hpp"

#include <climits>
#include <cmath>

namespace pagdeploy {

namespace {

bool positive(const Grid& grid) { return grid.images > 0 && grid.height > 0 && grid.width > 0; }

bool indexable(const Grid& grid) {
    return (long long)grid.images * grid.height * grid.width <= INT_MAX;
}

const char* faultOfGeometry(const ConvGeometry& geometry) {
    if (!positive(geometry.input) || !positive(geometry.output)) {
        return "a map has no pixels";
    }
    if (!indexable(geometry.input) || !indexable(geometry.output)) {
        return "a map has more than 2^31 - 1 pixels";
    }
    if (geometry.input.images != geometry.output.images) {
        return "input and output differ in the number of images";
    }
    if (geometry.kernelHeight < 1 || geometry.kernelWidth < 1) {
        return "the kernel has no taps";
    }
    if (geometry.strideY < 1 || geometry.strideX < 1) {
        return "a stride is below 1";
    }
    if (geometry.groups < 1 || geometry.inputChannels < 1 || geometry.outputChannels < 1 ||
        geometry.inputChannels % geometry.groups != 0 ||
        geometry.outputChannels % geometry.groups != 0) {
        return "the channels are no multiple of the groups";
    }
    return nullptr;
}

}  // namespace

PerforatedConvProblem channelsLastProblem(DataType type, const ConvGeometry& geometry,
                                          const BranchGeometry& branch, int value) {
    PerforatedConvProblem problem;
    problem.type = type;
    problem.geometry = geometry;
    problem.selection.branches = 1;
    problem.selection.values[0] = value;
    problem.branch[0] = branch;
    problem.inputPitch = geometry.inputChannels;
    problem.outputPitch = geometry.outputChannels;
    problem.basePitch = geometry.outputChannels;
    const int inputs = geometry.groups > 0 ? geometry.inputsPerGroup() : 0;
    problem.weightOutputStride = (long long)geometry.taps() * inputs;
    problem.weightTapStride = inputs;
    problem.weightChannelStride = 1;
    return problem;
}

const char* faultOf(const PerforatedConvProblem& problem) {
    if (const char* fault = faultOfGeometry(problem.geometry)) {
        return fault;
    }
    if (problem.selection.branches < 1 || problem.selection.branches > kMaxBranches) {
        return "one launch serves 1 to 16 branches";
    }
    for (int b = 0; b < problem.selection.branches; ++b) {
        if (problem.branch[b].dilationY < 1 || problem.branch[b].dilationX < 1) {
            return "a dilation is below 1";
        }
    }
    if (problem.mode != kModeReplace && problem.mode != kModeAdd) {
        return "the mode is neither replace nor add";
    }
    if (problem.activation < kActivationNone || problem.activation > kActivationLeakyRelu) {
        return "the activation is unknown";
    }
    if (problem.inputPitch < problem.geometry.inputChannels ||
        problem.outputPitch < problem.geometry.outputChannels ||
        (!problem.baseIsOneValue && problem.basePitch < problem.geometry.outputChannels)) {
        return "a row is shorter than its channels";
    }
    return nullptr;
}

bool tilesCanCompute(const PerforatedConvProblem& problem) {
    const ConvGeometry& geometry = problem.geometry;
    const int perChunk = 16 / sizeOf(problem.type);
    const bool rowsAligned = geometry.inputsPerGroup() % perChunk == 0 &&
                             problem.inputPitch % perChunk == 0 &&
                             problem.weightOutputStride % perChunk == 0 &&
                             problem.weightTapStride % perChunk == 0;
    const bool outputsAligned =
        geometry.outputsPerGroup() % 8 == 0 && problem.outputPitch % 8 == 0 &&
        (problem.baseIsOneValue || problem.basePitch % 8 == 0);
    return rowsAligned && outputsAligned && problem.weightChannelStride == 1 &&
           geometry.taps() <= kMaxTileTaps;
}

long long mostTiles(const PerforatedConvProblem& problem, int tileRows, int tileColumns) {
    const ConvGeometry& geometry = problem.geometry;
    const long long pixels = geometry.output.pixels();
    const long long columnTiles =
        (long long)geometry.groups * ceilDivide(geometry.outputsPerGroup(), tileColumns);
    // Every branch but the first may add one ragged tile of rows, and their pixels come on top of a
    // branch that walks the map.
    const int others = problem.selection.branches - 1;
    const long long besides = others > 0 ? pixels / kPixelsPerWasted : 0;
    const long long rowTiles = ceilDivide(pixels, (long long)tileRows) +
                               besides / tileRows + others;
    const long long fill = problem.fillInactive ? ceilDivide(pixels, (long long)kFillRows) : 0;
    return larger(rowTiles * columnTiles, fill);
}

double expectedCost(const PerforatedConvProblem& problem, const TileTraits& tile,
                    int blocksPerProcessor, const DeviceTraits& device) {
    const ConvGeometry& geometry = problem.geometry;
    const double rows = larger(1.0, double(problem.density) * geometry.output.pixels());
    const double columnTiles =
        double(geometry.groups) * ceilDivide(geometry.outputsPerGroup(), tile.columns);
    const double tiles = std::ceil(rows / tile.rows) * columnTiles;
    // Blocks that share a multiprocessor share its tensor cores: one of them alone would wait.
    const double perProcessor = std::ceil(tiles / device.multiprocessors);
    const double waves = std::ceil(perProcessor / blocksPerProcessor);
    const double together = smaller(perProcessor, double(blocksPerProcessor));
    // Arithmetic units per clock: wgmma reads its operands from shared memory directly and keeps
    // the tensor cores busier than mma.sync can. Loads: both operands of every step.
    const double arithmetic = double(tile.rows) * tile.columns / (tile.wgmma ? 1.6 : 1.0);
    const double loads = (tile.rows + tile.columns) * 48.0;
    const double latency = 2500.0;
    const double step = larger(larger(arithmetic, loads) * together, latency);
    return waves * step;
}

}  // namespace pagdeploy
