// How the rows of a list are walked, and shared out among tasks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/pixel_order.hpp"

namespace pagdeploy::cpu {

// Enough for the threads of most machines; a tile that is split further loses reuse.
constexpr int kWantedTasks = 16;

// The positions of the listed pixels one after the other, without a division for each.
class AscendingPixels {
public:
    AscendingPixels(const Grid& map, const std::int32_t* pixels, std::size_t row)
        : map_(map), pixels_(pixels), row_(row), current_(pixel()),
          at_(positionOf(map, current_)) {}

    PixelPosition next() {
        const int target = pixel();
        at_.x += target - current_;
        current_ = target;
        while (at_.x >= map_.width) {
            at_.x -= map_.width;
            if (++at_.y == map_.height) {
                at_.y = 0;
                ++at_.image;
            }
        }
        ++row_;
        return at_;
    }

private:
    int pixel() const { return pixels_ != nullptr ? pixels_[row_] : static_cast<int>(row_); }

    const Grid& map_;
    const std::int32_t* pixels_;
    std::size_t row_;
    int current_;
    PixelPosition at_;
};

// How rows and panels are shared out.
struct Partition {
    int rows;       // of a tile
    int rowTiles;
    int panels;     // of a task, or channels of a depthwise one
    int panelTiles;
};

inline Partition partition(std::size_t rows, int mostRows, int leastRows, int panels) {
    if (rows == 0 || panels == 0) {
        return {};
    }
    const int count = static_cast<int>(rows);
    int rowTiles = ceilDivide(count, mostRows);
    if (rowTiles * panels < kWantedTasks) {
        rowTiles = std::max(rowTiles, std::min(ceilDivide(count, leastRows),
                                               ceilDivide(kWantedTasks, panels)));
    }
    const int tileRows = ceilDivide(count, rowTiles);
    rowTiles = ceilDivide(count, tileRows);
    int panelTiles = std::min(panels, ceilDivide(kWantedTasks, rowTiles));
    const int tilePanels = ceilDivide(panels, panelTiles);
    panelTiles = ceilDivide(panels, tilePanels);
    return {tileRows, rowTiles, tilePanels, panelTiles};
}

}  // namespace pagdeploy::cpu
