#include "pag_gate/cpu.hpp"

#include <algorithm>

#include "pag_gate/geometry.hpp"

namespace pagdeploy {

namespace {

constexpr std::size_t kPixelsPerTask = 4096;

}  // namespace

void selectBranches(const float* logits, const Grid& grid, int branches, std::int32_t* selection,
                    Host& host) {
    const auto perImage = static_cast<std::size_t>(grid.height) * grid.width;
    const std::size_t tasksPerImage = ceilDivide(perImage, kPixelsPerTask);
    host.parallelFor(grid.images * tasksPerImage, [&](std::size_t task) {
        const std::size_t image = task / tasksPerImage;
        const std::size_t first = (task % tasksPerImage) * kPixelsPerTask;
        const std::size_t last = std::min(perImage, first + kPixelsPerTask);
        const float* plane = logits + image * branches * perImage;
        std::int32_t* chosen = selection + image * perImage;
        if (branches == 2) {  // the usual gate, as a loop that the compiler vectorises
            for (std::size_t i = first; i < last; ++i) {
                chosen[i] = plane[perImage + i] > plane[i] ? 1 : 0;
            }
            return;
        }
        for (std::size_t i = first; i < last; ++i) {
            chosen[i] = firstLargest(
                branches, [&](int k) { return plane[static_cast<std::size_t>(k) * perImage + i]; });
        }
    });
}

std::size_t listActivePixels(const std::int32_t* selection, std::size_t count, std::int32_t branch,
                             std::int32_t* pixels) {
    // No branch in the loop, which salt would mispredict: always store, then advance or not. The
    // store behind the last active pixel stays inside, because it is at most number `i`.
    std::size_t found = 0;
    for (std::size_t i = 0; i < count; ++i) {
        pixels[found] = static_cast<std::int32_t>(i);
        found += selection[i] == branch ? 1 : 0;
    }
    return found;
}

}  // namespace pagdeploy
