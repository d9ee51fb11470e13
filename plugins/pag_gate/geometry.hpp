// Index arithmetic of PAGGate and of the pixel lists made from a selection.
#pragma once

#include "common/pixel_order.hpp"

namespace pagdeploy {

// The index of the largest logit. The lowest index wins a tie, as in ONNX ArgMax.
template <typename Logit>
PAG_HD int firstLargest(int channels, Logit&& logit) {
    int best = 0;
    float largest = logit(0);
    for (int k = 1; k < channels; ++k) {
        const float value = logit(k);
        if (value > largest) {
            largest = value;
            best = k;
        }
    }
    return best;
}

// Where logit k of pixel (n, y, x) lies, in elements: whatever layout the tensor has.
struct LogitStrides {
    long long image;
    long long pixel;
    long long channel;

    PAG_HD long long offset(const Grid& grid, int pixelIndex, int k) const {
        const int perImage = grid.height * grid.width;
        const int n = pixelIndex / perImage;
        return n * image + (pixelIndex - n * perImage) * pixel + k * channel;
    }
};

inline LogitStrides logitStridesNchw(const Grid& grid, int channels) {
    const long long perImage = (long long)grid.height * grid.width;
    return {perImage * channels, 1, perImage};
}

// `pitch` elements lie between neighbouring pixels; it is at least the number of channels.
inline LogitStrides logitStridesNhwc(const Grid& grid, int pitch) {
    return {(long long)grid.height * grid.width * pitch, pitch, 1};
}

// The lists that a selection is sorted into: one for each of `branches` values, and a last one,
// number `branches`, for the pixels of every other value.
struct ListLayout {
    int branches;
    int values[kMaxBranches];

    PAG_HD int lists() const { return branches + 1; }
    PAG_HD int listOf(int selected) const {
        int list = branches;
        for (int b = 0; b < branches; ++b) {
            list = values[b] == selected ? b : list;
        }
        return list;
    }
};

constexpr int kListThreads = 256;
constexpr int kListSlotsPerThread = 4;
constexpr int kListSlotsPerBlock = kListThreads * kListSlotsPerThread;

PAG_HD int listBlocks(const PixelOrder& order) {
    return int(ceilDivide(order.slots(), (long long)kListSlotsPerBlock));
}

// Up to this many blocks each of them counts the pixels before its own itself, which saves a launch:
// it reads at most 7168 decisions, less work than the gap between two launches is long.
constexpr int kBlocksThatCountThemselves = 8;

// The workspace of one set of lists. Nothing in it needs to be initialised.
struct ListWorkspace {
    int lists;
    int capacity;  // pixels that each list has room for: all of them
    int blocks;

    PAG_HD std::size_t countsOffset() const { return 0; }
    PAG_HD std::size_t partialOffset() const { return roundUp<std::size_t>(4u * lists, 128); }
    PAG_HD std::size_t pixelsOffset() const {
        return partialOffset() + roundUp<std::size_t>(std::size_t(4) * blocks * lists, 128);
    }
    PAG_HD std::size_t bytes() const {
        return pixelsOffset() + roundUp<std::size_t>(std::size_t(4) * capacity * lists, 128);
    }
};

PAG_HD ListWorkspace listWorkspace(const PixelOrder& order, const ListLayout& layout) {
    return {layout.lists(), order.grid.pixels(), listBlocks(order)};
}

}  // namespace pagdeploy
