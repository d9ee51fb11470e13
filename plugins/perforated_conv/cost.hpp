// What is refused, what tiles can compute, and which tile is expected to be fastest: plain
// arithmetic on a problem, tested without a GPU.
#pragma once

#include "perforated_conv/launch.hpp"

namespace pagdeploy {

struct DeviceTraits {
    int multiprocessors;
    int computeCapability;  // 75, 80, 90, ...
    int sharedBytesPerBlock;
};

struct TileTraits {
    int rows;
    int columns;
    bool wgmma;
};

// Whether 16-byte copies reach every row, and eight channels never straddle a group or the end.
bool tilesCanCompute(const PerforatedConvProblem& problem);

// Tiles at full density, the fill of a map without any active pixel included: more blocks would
// find nothing to do.
long long mostTiles(const PerforatedConvProblem& problem, int tileRows, int tileColumns);

// Time of the product in arbitrary units: whole waves of tiles, each as slow as the slower of its
// arithmetic and its loads. Good for ranking tiles, not for predicting times.
double expectedCost(const PerforatedConvProblem& problem, const TileTraits& tile,
                    int blocksPerProcessor, const DeviceTraits& device);

}  // namespace pagdeploy
