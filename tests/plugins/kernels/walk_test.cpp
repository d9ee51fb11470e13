// Maps of which nearly every pixel is active: tiles walk the whole map in place of the list, and
// what they compute at inactive pixels stays unseen.
#include <gtest/gtest.h>

#include "expect_conv.hpp"
#include "schedules.hpp"

namespace pagdeploy {
namespace {

using namespace testing;

constexpr int kHeight = 9;
constexpr int kWidth = 11;
constexpr int kMostInactive = kHeight * kWidth / kPixelsPerWasted;

ConvSpec mostlyActive(const char* name, int inactive) {
    ConvSpec spec;
    spec.name = name;
    spec.height = kHeight;
    spec.width = kWidth;
    spec.inputs = 24;
    spec.outputs = 40;
    spec.inactivePixels = inactive;
    return spec;
}

TEST(Walk, BeginsAtItsShareOfThePixels) {
    EXPECT_EQ(fewestToWalk({1, 1, 1}), 1);
    EXPECT_EQ(fewestToWalk({1, 3, 5}), 15);
    EXPECT_EQ(fewestToWalk({1, 4, 4}), 15);
    EXPECT_EQ(fewestToWalk({2, 60, 80}), 9000);
    EXPECT_EQ(fewestToWalk({1, 46340, 46340}), 2147395600 - 134212225);
}

TEST(Walk, EveryVariantUnderEverySchedule) {
    ConvSpec spec = mostlyActive("as many inactive as a walk allows, add", kMostInactive);
    spec.mode = kModeAdd;
    for (int i = 0; i < perforatedConvVariants(); ++i) {
        underEverySchedule([&] { expectRightInItsType(spec, i); });
    }
}

// Everything that a variant can be asked, on both sides of the walk's beginning. With a 1x1 kernel
// the input of every inactive pixel is NaN or Inf; in `replace` the base of every active one is.
void expectRightAroundTheShare(int variant) {
    const emulator::Options before = emulator::options;
    int turn = 0;
    for (const int inactive : {0, 1, kMostInactive - 1, kMostInactive, kMostInactive + 1}) {
        for (const int mode : {kModeReplace, kModeAdd}) {
            for (int activation = kActivationNone; activation <= kActivationLeakyRelu;
                 ++activation) {
                emulator::options.schedule = emulator::Schedule(turn++ % emulator::kSchedules);
                SCOPED_TRACE("inactive " + std::to_string(inactive) + ", mode " +
                             std::to_string(mode) + ", activation " + std::to_string(activation));
                ConvSpec spec = mostlyActive("1x1", inactive);
                spec.kernel = 1;
                spec.mode = mode;
                spec.activation = activation;
                expectRightInItsType(spec, variant);
                spec.name = "3x3";
                spec.kernel = 3;
                spec.baseIsOneValue = activation == kActivationRelu;
                expectRightInItsType(spec, variant);
                spec.name = "3x3, stride 2";  // of the same output
                spec.stride = 2;
                spec.height = 2 * kHeight;
                spec.width = 2 * kWidth - 1;
                expectRightInItsType(spec, variant);
            }
        }
    }
    emulator::options = before;
}

TEST(Walk, AroundTheShareOnTensorCores) {
    expectRightAroundTheShare(variantNamed("half_64x64"));
}
TEST(Walk, AroundTheShareOnWarpgroups) {
    expectRightAroundTheShare(variantNamed("half_wgmma_128x64"));
}
TEST(Walk, AroundTheShareInExactFloat) {
    expectRightAroundTheShare(variantNamed("float_64x64"));
}
TEST(Walk, AroundTheShareOnTheDirectKernel) {
    for (const int inactive : {1, kMostInactive, kMostInactive + 1}) {
        expectRight<Half>(mostlyActive("direct", inactive), kDirectVariant);
    }
}

TEST(Walk, OneDecisionForAnImage) {
    for (const char* variant : {"half_64x64", "half_wgmma_128x64"}) {
        for (const int inactive : {0, 1, 2}) {  // a walk, a walk, a list
            ConvSpec spec = mostlyActive("17 images", inactive);
            spec.images = 17;
            spec.height = 3;
            spec.width = 5;
            spec.perImage = true;
            spec.inputs = 8;
            underEverySchedule([&] { expectRight<Half>(spec, variantNamed(variant)); });
        }
    }
}

TEST(Walk, OneBranchOfSeveral) {
    for (const char* variant : {"half_64x64", "half_wgmma_128x64", "float_64x64"}) {
        for (const int inactive : {0, 2}) {
            for (const int mainBranch : {0, 1, 2}) {
                ConvSpec spec = mostlyActive("three branches", inactive);
                spec.branches = 3;
                spec.mainBranch = mainBranch;
                spec.pixelsInTurn = 4;
                underEverySchedule([&] { expectRightInItsType(spec, variantNamed(variant)); });
                spec.name = "three branches, lists";
                spec.pixelsInTurn = 12;
                expectRightInItsType(spec, variantNamed(variant));
            }
        }
    }
}

TEST(Walk, MoreTilesThanBlocks) {
    for (const char* variant : {"half_32x64", "half_64x64", "half_wgmma_128x64"}) {
        ConvSpec spec = mostlyActive("more tiles than blocks", 21);
        spec.height = 18;
        spec.width = 19;
        spec.outputs = 136;
        spec.branches = 2;
        spec.pixelsInTurn = 0;
        underEverySchedule([&] { expectRight<Half>(spec, variantNamed(variant)); });
    }
}

enum class Spoilt { list, selection };

// What becomes of the output if the list of the active pixels says pixel 0 everywhere, or if
// nobody knows the selection that the lists were made from.
Comparison computeWith(Spoilt spoilt, int inactive, const char* variant) {
    const ConvCase<Half> conv = makeConv<Half>(mostlyActive("spoilt", inactive), 17);
    PerforatedConvPlan plan{};
    EXPECT_EQ(planPerforatedConv(conv.problem, variantNamed(variant), &plan), cudaSuccess);
    DeviceBuffer<Half> input(conv.input);
    DeviceBuffer<Half> weights(conv.weights[0]);
    DeviceBuffer<Half> bias(conv.bias[0]);
    DeviceBuffer<Half> base(conv.base);
    DeviceBuffer<Half> output(poisonedOutput(conv));
    DeviceBuffer<int> selection(conv.selection);
    DeviceBuffer<unsigned char> workspace(
        std::vector<unsigned char>(perforatedConvWorkspaceBytes(conv.problem), 0xA5));
    PixelLists lists{};
    EXPECT_EQ(launchLists(plan.order, conv.problem.selection, selection.data(), false,
                          workspace.data(), nullptr, &lists),
              cudaSuccess);
    EXPECT_EQ(lists.selection, selection.data());
    std::vector<int> pixels(lists.pixels, lists.pixels + 2 * lists.capacity);
    if (spoilt == Spoilt::list) {
        std::fill_n(pixels.begin(), lists.counts[0], 0);
    } else {
        lists.selection = nullptr;
    }
    lists.pixels = pixels.data();
    PerforatedConvBuffers buffers{};
    buffers.input = input.data();
    buffers.weights[0] = weights.data();
    buffers.bias[0] = bias.data();
    buffers.base = base.data();
    buffers.output = output.data();
    EXPECT_EQ(launchPerforatedConv(conv.problem, plan, buffers, lists, nullptr), cudaSuccess);
    return compare(conv, output.values(), boundFor<Half>(conv.problem));
}

TEST(Walk, ReadsNoListFromItsShareOn) {
    for (const char* variant : {"half_64x64", "half_wgmma_128x64"}) {
        EXPECT_EQ(computeWith(Spoilt::list, 0, variant).firstBad, "");
        EXPECT_EQ(computeWith(Spoilt::list, 1, variant).firstBad, "");
        EXPECT_EQ(computeWith(Spoilt::list, kMostInactive, variant).firstBad, "");
        EXPECT_NE(computeWith(Spoilt::list, kMostInactive + 1, variant).firstBad, "");
    }
}

TEST(Walk, TakesTheListWithoutASelection) {
    for (const char* variant : {"half_64x64", "half_wgmma_128x64"}) {
        EXPECT_EQ(computeWith(Spoilt::selection, 0, variant).firstBad, "");
        EXPECT_EQ(computeWith(Spoilt::selection, kMostInactive, variant).firstBad, "");
    }
}

}  // namespace
}  // namespace pagdeploy
