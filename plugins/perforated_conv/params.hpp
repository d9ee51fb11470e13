// What every kernel of PerforatedConv is given.
#pragma once

#include "common/element.hpp"
#include "perforated_conv/geometry.hpp"

namespace pagdeploy {

struct ConvParams {
    const void* input;
    const void* base;
    void* output;
    const void* weights[kMaxBranches];  // [output channel][tap][channel of the group]
    const void* bias[kMaxBranches];     // [output channel]
    BranchGeometry branch[kMaxBranches];
    ConvGeometry geometry;
    int branches;

    const int* pixels;  // [list][capacity], list `branches` holds the inactive pixels
    const int* counts;  // [list]
    int capacity;

    // Elements from pixel to pixel; at least the number of channels.
    int inputPitch;
    int outputPitch;
    int basePitch;
    // Elements from weight to weight along each axis.
    long long weightOutputStride;
    long long weightTapStride;
    long long weightChannelStride;

    int mode;
    int activation;
    float alpha;
    int baseIsOneValue;
    int fillInactive;

    // What the lists were made from, or nullptr: branch b has the pixels whose decision is
    // values[b]. It is read where a branch walks the map.
    const int* selection;
    int values[kMaxBranches];
    int pixelsPerDecision;
    int fewestToWalk;  // lists of this length or more are not read

    PAG_HD int rowsOf(int list) const { return smaller(counts[list], capacity); }

    PAG_HD bool walksMap(int branch) const { return rowsOf(branch) >= fewestToWalk; }

    // The rows that the tiles of a branch run over.
    PAG_HD int tileRowsOf(int branch) const {
        const int rows = rowsOf(branch);
        return rows >= fewestToWalk ? geometry.output.pixels() : rows;
    }

    // The pixel of a list's row, whatever order that makes.
    PAG_HD int pixelOfRow(int list, int rowsInList, int row) const {
        return isIdentity(rowsInList, geometry.output)
                   ? row
                   : pixels[std::size_t(list) * capacity + row];
    }
};

// A NaN stays a NaN.
PAG_HD float activate(float value, int activation, float alpha) {
    switch (activation) {
        case kActivationRelu:
            return value < 0.0f ? 0.0f : value;
        case kActivationRelu6:
            return value < 0.0f ? 0.0f : (value > 6.0f ? 6.0f : value);
        case kActivationLeakyRelu:
            return value < 0.0f ? alpha * value : value;
        default:
            return value;
    }
}

// What an inactive pixel shows.
template <typename Element>
PAG_HD Element activatedBase(const ConvParams& params, Element base) {
    return params.mode == kModeAdd
               ? fromFloat<Element>(activate(toFloat(base), params.activation, params.alpha))
               : base;
}

}  // namespace pagdeploy
