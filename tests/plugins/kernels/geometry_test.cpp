// Index arithmetic, element conversion and the planner's cost model: host code, no emulation.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "common/element.hpp"
#include "common/tile.hpp"
#include "pag_gate/geometry.hpp"
#include "perforated_conv/cost.hpp"
#include "perforated_conv/geometry.hpp"

namespace pagdeploy {
namespace {

TEST(Element, EveryHalfSurvivesTheWayThroughFloat) {
    for (int bits = 0; bits < 65536; ++bits) {
        const Half half{std::uint16_t(bits)};
        const float value = toFloat(half);
        if (std::isnan(value)) {
            EXPECT_TRUE(std::isnan(toFloat(fromFloat<Half>(value))));
            continue;
        }
        ASSERT_EQ(fromFloat<Half>(value).bits, bits);
    }
}

TEST(Element, HalfRoundsToNearestEven) {
    EXPECT_EQ(toFloat(fromFloat<Half>(2049.0f)), 2048.0f);
    EXPECT_EQ(toFloat(fromFloat<Half>(2051.0f)), 2052.0f);
    EXPECT_EQ(fromFloat<Half>(65519.0f).bits, 0x7BFF);
    EXPECT_EQ(fromFloat<Half>(65520.0f).bits, 0x7C00);
    EXPECT_EQ(fromFloat<Half>(std::ldexp(1.0f, -25)).bits, 0);
    EXPECT_EQ(fromFloat<Half>(std::ldexp(1.5f, -25)).bits, 1);
    EXPECT_EQ(fromFloat<Half>(-0.0f).bits, 0x8000);
    EXPECT_EQ(fromFloat<Half>(std::ldexp(1.0f, -14) * (1 - 1.0f / 4096)).bits, 0x0400);
}

TEST(Element, BFloat16RoundsToNearestEvenAndKeepsNan) {
    EXPECT_EQ(fromFloat<BFloat16>(1.00390625f).bits, 0x3F80);
    EXPECT_EQ(fromFloat<BFloat16>(1.01171875f).bits, 0x3F82);
    EXPECT_TRUE(std::isnan(toFloat(fromFloat<BFloat16>(floatOf(0x7F800001u)))));
    EXPECT_EQ(fromFloat<BFloat16>(std::numeric_limits<float>::infinity()).bits, 0x7F80);
}

TEST(Tile, SwizzleKeepsChunksApartAndRowsTogether) {
    std::set<int> offsets;
    for (int row = 0; row < 16; ++row) {
        for (int chunk = 0; chunk < kChunksPerRow; ++chunk) {
            const int offset = swizzledOffset(row, chunk);
            EXPECT_EQ(offset / kTileRowBytes, row);
            EXPECT_EQ(offset % kChunkBytes, 0);
            offsets.insert(offset);
        }
    }
    EXPECT_EQ(offsets.size(), 128u);
    for (int chunk = 0; chunk < kChunksPerRow; ++chunk) {  // eight rows, eight groups of banks
        std::set<int> banks;
        for (int row = 8; row < 16; ++row) {
            banks.insert(swizzledOffset(row, chunk) % kTileRowBytes);
        }
        EXPECT_EQ(banks.size(), 8u);
    }
}

TEST(PixelOrder, VisitsEveryPixelOnce) {
    for (const Grid grid : {Grid{1, 1, 1}, Grid{2, 7, 9}, Grid{1, 16, 24}, Grid{3, 13, 17}}) {
        for (int blockLog2 : {0, 1, 3}) {
            for (int phase : {1, 2, 5, 20}) {
                const PixelOrder order{grid, blockLog2, phase};
                std::vector<int> visits(std::size_t(grid.pixels()), 0);
                for (int slot = 0; slot < order.slots(); ++slot) {
                    const int pixel = order.pixelOf(slot);
                    ASSERT_LT(pixel, grid.pixels());
                    if (pixel >= 0) {
                        ++visits[std::size_t(pixel)];
                    }
                }
                for (int count : visits) {
                    ASSERT_EQ(count, 1);
                }
            }
        }
    }
}

TEST(PixelOrder, StaysWithinAPhaseAndABlock) {
    const PixelOrder order{{1, 32, 32}, 3, 2};
    for (int slot = 0; slot < 64; ++slot) {
        const PixelPosition at = positionOf(order.grid, order.pixelOf(slot));
        EXPECT_EQ(at.y % 2, 0);
        EXPECT_EQ(at.x % 2, 0);
        EXPECT_LT(at.y, 16);
        EXPECT_LT(at.x, 16);
    }
}

TEST(Gate, LowestIndexWinsATie) {
    const float logits[] = {1.0f, 3.0f, 3.0f, 2.0f};
    EXPECT_EQ(firstLargest(4, [&](int k) { return logits[k]; }), 1);
    EXPECT_EQ(firstLargest(1, [&](int k) { return logits[k]; }), 0);
}

TEST(Gate, StridesReachEveryLayout) {
    const Grid grid{2, 3, 4};
    const int pixel = (1 * 3 + 2) * 4 + 1;
    EXPECT_EQ(logitStridesNchw(grid, 5).offset(grid, pixel, 3), ((1 * 5 + 3) * 3 + 2) * 4 + 1);
    EXPECT_EQ(logitStridesNhwc(grid, 8).offset(grid, pixel, 3), pixel * 8 + 3);
}

TEST(Gate, UnknownValuesGoToTheLastList) {
    const ListLayout layout{2, {4, 7}};
    EXPECT_EQ(layout.listOf(4), 0);
    EXPECT_EQ(layout.listOf(7), 1);
    EXPECT_EQ(layout.listOf(0), 2);
    EXPECT_EQ(layout.listOf(-1), 2);
}

TEST(Conv, TapSourceFollowsStridePadAndDilation) {
    const ConvGeometry geometry{{2, 7, 9}, {2, 4, 5}, 3, 3, 2, 2, 1, 8, 8};
    const BranchGeometry branch{1, 1, 1, 1};
    EXPECT_EQ(geometry.tapSource(branch, {0, 0, 0}, 0), -1);
    EXPECT_EQ(geometry.tapSource(branch, {0, 0, 0}, 4), 0);
    EXPECT_EQ(geometry.tapSource(branch, {1, 3, 4}, 4), (1 * 7 + 6) * 9 + 8);
    EXPECT_EQ(geometry.tapSource(branch, {1, 3, 4}, 8), -1);
    const BranchGeometry wide{20, 20, 20, 20};
    const ConvGeometry same{{1, 7, 9}, {1, 7, 9}, 3, 3, 1, 1, 1, 8, 8};
    for (int tap = 0; tap < 9; ++tap) {
        EXPECT_EQ(same.tapSource(wide, {0, 3, 3}, tap), tap == 4 ? 3 * 9 + 3 : -1);
    }
}

TEST(Conv, OutputSizeIsThatOfOnnx) {
    EXPECT_EQ(outputSize(7, 3, 2, 1, 2), 4);
    EXPECT_EQ(outputSize(7, 3, 1, 20, 40), 7);
    EXPECT_EQ(outputSize(1, 3, 1, 1, 0), 0);
}

TEST(Conv, DepthRunsThroughTapsInsideChunks) {
    const unsigned taps = 0b101000010u;
    DepthStep step{taps, 0};
    std::vector<std::pair<int, int>> seen;
    for (int i = 0; i < 6; ++i) {
        seen.emplace_back(__builtin_ctz(step.tapsLeft), step.chunk);
        step.next(taps);
    }
    const std::vector<std::pair<int, int>> expected = {{1, 0}, {6, 0}, {8, 0},
                                                       {1, 1}, {6, 1}, {8, 1}};
    EXPECT_EQ(seen, expected);
}

TEST(Conv, TilesCoverEveryRowAndColumnOnce) {
    const int rows[] = {0, 130, 64, 1};
    const TileSchedule schedule{64, 32, 2, 40};
    auto rowsOf = [&](int b) { return rows[b]; };
    std::set<std::tuple<int, int, int, int>> covered;
    const int tiles = schedule.tiles(4, rowsOf);
    EXPECT_EQ(tiles, (3 + 1 + 1) * 4);
    for (int i = 0; i < tiles; ++i) {
        const Tile tile = schedule.tile(i, 4, rowsOf);
        ASSERT_GT(tile.rows, 0);
        for (int r = 0; r < tile.rows; ++r) {
            for (int c = tile.firstColumn; c < std::min(40, tile.firstColumn + 32); ++c) {
                EXPECT_TRUE(
                    covered.emplace(tile.branch, tile.firstRow + r, tile.group, c).second);
            }
        }
    }
    EXPECT_EQ(covered.size(), std::size_t(130 + 64 + 1) * 2 * 40);
}

PerforatedConvProblem problemOf(int channels, int height, int width, int images) {
    const Grid grid{images, height, width};
    const ConvGeometry geometry{grid, grid, 3, 3, 1, 1, 1, channels, channels};
    return channelsLastProblem(DataType::kFloat16, geometry, {1, 1, 1, 1}, 1);
}

TEST(Cost, LargeTilesForLargeMapsSmallTilesForSmallOnes) {
    const DeviceTraits h200{132, 90, 227 * 1024};
    auto cost = [&](const PerforatedConvProblem& problem, const TileTraits& tile, int resident) {
        return expectedCost(problem, tile, resident, h200);
    };
    const PerforatedConvProblem large = problemOf(512, 60, 80, 8);
    EXPECT_LT(cost(large, {128, 256, true}, 1), cost(large, {64, 64, false}, 4));
    const PerforatedConvProblem small = problemOf(64, 14, 14, 1);
    EXPECT_LE(cost(small, {32, 64, false}, 4), cost(small, {128, 128, false}, 1));
}

TEST(Cost, RefusesWhatTilesCannotReach) {
    EXPECT_TRUE(tilesCanCompute(problemOf(64, 8, 8, 1)));
    EXPECT_FALSE(tilesCanCompute(problemOf(36, 8, 8, 1)));
    PerforatedConvProblem padded = problemOf(64, 8, 8, 1);
    padded.inputPitch = 68;
    EXPECT_FALSE(tilesCanCompute(padded));
    PerforatedConvProblem depthwise = problemOf(64, 8, 8, 1);
    depthwise.geometry.groups = 64;
    EXPECT_FALSE(tilesCanCompute(depthwise));
}

TEST(Cost, FaultsAreSentences) {
    PerforatedConvProblem problem = problemOf(64, 8, 8, 1);
    EXPECT_EQ(faultOf(problem), nullptr);
    problem.geometry.groups = 3;
    EXPECT_STREQ(faultOf(problem), "the channels are no multiple of the groups");
    problem = problemOf(64, 8, 8, 1);
    problem.branch[0].dilationX = 0;
    EXPECT_STREQ(faultOf(problem), "a dilation is below 1");
    problem = problemOf(64, 8, 8, 1);
    problem.inputPitch = 63;
    EXPECT_STREQ(faultOf(problem), "a row is shorter than its channels");
}

}  // namespace
}  // namespace pagdeploy
