// PAGGate and the pixel lists on the emulator, against plain loops.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "pag_gate/launch.hpp"
#include "schedules.hpp"

namespace pagdeploy {
namespace {

using testing::underEverySchedule;

constexpr int kPoison = -123456789;

struct GateCase {
    Grid grid;
    int channels;
    bool nhwc;
    int padding;  // channels of padding behind each pixel, NHWC only
};

template <typename Element>
std::vector<Element> randomLogits(const GateCase& gate, const LogitStrides& strides,
                                  std::vector<int>* expected) {
    std::mt19937 random(7);
    const int pixels = gate.grid.pixels();
    const int pitch = gate.nhwc ? gate.channels + gate.padding : gate.channels;
    // Padding holds what must never be read.
    std::vector<Element> logits(std::size_t(pixels) * pitch, fromFloat<Element>(INFINITY));
    expected->assign(std::size_t(pixels), 0);
    for (int pixel = 0; pixel < pixels; ++pixel) {
        float largest = -INFINITY;
        for (int k = 0; k < gate.channels; ++k) {
            // Few distinct values, so that ties are common; -Inf is a legal logit.
            const int drawn = int(random() % 4) - 1;
            const float value = drawn < 0 && k > 0 ? -INFINITY : float(drawn) * 0.5f;
            logits[std::size_t(strides.offset(gate.grid, pixel, k))] = fromFloat<Element>(value);
            if (value > largest) {
                largest = value;
                (*expected)[std::size_t(pixel)] = k;
            }
        }
    }
    return logits;
}

LogitStrides stridesOf(const GateCase& gate) {
    return gate.nhwc ? logitStridesNhwc(gate.grid, gate.channels + gate.padding)
                     : logitStridesNchw(gate.grid, gate.channels);
}

void expectLists(const PixelOrder& order, const ListLayout& layout,
                 const std::vector<int>& selected, const PixelLists& lists) {
    std::vector<std::vector<int>> expected(std::size_t(layout.lists()));
    for (int slot = 0; slot < order.slots(); ++slot) {
        const int pixel = order.pixelOf(slot);
        if (pixel >= 0) {
            const int list = layout.listOf(selected[std::size_t(pixel)]);
            expected[std::size_t(list)].push_back(pixel);
        }
    }
    for (int k = 0; k < layout.lists(); ++k) {
        const auto& wanted = expected[std::size_t(k)];
        ASSERT_EQ(lists.counts[k], int(wanted.size())) << "list " << k;
        for (std::size_t i = 0; i < wanted.size(); ++i) {
            ASSERT_EQ(lists.pixels[std::size_t(k) * lists.capacity + i], wanted[i])
                << "list " << k << ", entry " << i;
        }
    }
}

template <typename Element>
void runGate(const GateCase& gate) {
    const LogitStrides strides = stridesOf(gate);
    std::vector<int> expected;
    const std::vector<Element> logits = randomLogits<Element>(gate, strides, &expected);
    const GateProblem problem{ElementTraits<Element>::kType, gate.grid, gate.channels, strides};
    ASSERT_EQ(faultOf(problem), nullptr);

    std::vector<int> selection(expected.size(), kPoison);
    ASSERT_EQ(launchGate(problem, logits.data(), selection.data(), nullptr), cudaSuccess);
    EXPECT_EQ(selection, expected);

    // Every branch but the first has a list, as in a gate whose branch 0 skips.
    ListLayout layout{std::max(1, gate.channels - 1), {}};
    for (int b = 0; b < layout.branches; ++b) {
        layout.values[b] = b + 1;
    }
    for (const PixelOrder order : {PixelOrder{gate.grid, 0, 1}, PixelOrder{gate.grid, 3, 2}}) {
        std::vector<int> workspace(listWorkspaceBytes(order, layout) / 4, kPoison);
        std::fill(selection.begin(), selection.end(), kPoison);
        PixelLists lists{};
        ASSERT_EQ(launchGateAndLists(problem, order, layout, logits.data(), selection.data(),
                                     workspace.data(), nullptr, &lists),
                  cudaSuccess);
        EXPECT_EQ(selection, expected);
        expectLists(order, layout, expected, lists);
    }
}

TEST(PAGGate, SelectsTheFirstLargestOfEveryPixel) {
    underEverySchedule([] {
        runGate<Half>({{1, 5, 7}, 2, true, 0});
        runGate<float>({{2, 13, 17}, 7, false, 0});
        runGate<BFloat16>({{1, 9, 9}, 16, true, 0});
        runGate<Half>({{3, 1, 1}, 1, false, 0});
        runGate<Half>({{1, 6, 5}, 2, true, 6});
    });
}

TEST(PAGGate, ManyBlocksKeepTheOrder) {
    // Few enough to count themselves, and more than that.
    static_assert(2 * 40 * 61 < kBlocksThatCountThemselves * kListSlotsPerBlock);
    static_assert(2 * 70 * 61 > kBlocksThatCountThemselves * kListSlotsPerBlock);
    underEverySchedule([] {
        runGate<Half>({{2, 40, 61}, 3, true, 0});
        runGate<BFloat16>({{2, 70, 61}, 3, false, 0});
    });
}

TEST(PAGGate, RefusesTooManyBranchesAndEmptyMaps) {
    const GateProblem wide{DataType::kFloat16, {1, 2, 2}, 17, {}};
    EXPECT_STREQ(faultOf(wide), "a gate has 1 to 16 branches");
    const GateProblem empty{DataType::kFloat16, {0, 2, 2}, 2, {}};
    EXPECT_STREQ(faultOf(empty), "the map has no pixels");
    EXPECT_EQ(launchGate(wide, nullptr, nullptr, nullptr), cudaErrorInvalidValue);
}

void runLists(const PixelOrder& order, const ListLayout& layout,
              const std::vector<int>& selection, bool perImage) {
    const int perMap = order.grid.height * order.grid.width;
    std::vector<int> perPixel(std::size_t(order.grid.pixels()));
    for (std::size_t i = 0; i < perPixel.size(); ++i) {
        perPixel[i] = perImage ? selection[i / std::size_t(perMap)] : selection[i];
    }
    std::vector<int> workspace(listWorkspaceBytes(order, layout) / 4, kPoison);
    PixelLists lists{};
    ASSERT_EQ(launchLists(order, layout, selection.data(), perImage, workspace.data(), nullptr,
                          &lists),
              cudaSuccess);
    expectLists(order, layout, perPixel, lists);
}

TEST(PixelLists, EmptyFullAndOnePixel) {
    const Grid grid{1, 9, 11};
    const PixelOrder order = orderFor(grid, 1);
    const ListLayout layout{1, {1}};
    underEverySchedule([&] {
        std::vector<int> selection(std::size_t(grid.pixels()), 0);
        runLists(order, layout, selection, false);
        selection[50] = 1;
        runLists(order, layout, selection, false);
        selection.assign(selection.size(), 1);
        runLists(order, layout, selection, false);
    });
}

TEST(PixelLists, PerImageSelectionAndForeignValues) {
    underEverySchedule([] {
        runLists(orderFor({4, 10, 12}, 1), {2, {1, 5}}, {0, 5, -7, 1}, true);
        runLists({{1, 1, 4}, 0, 1}, {1, {3}}, {3, 1000000, -1, 3}, false);
    });
}

}  // namespace
}  // namespace pagdeploy
