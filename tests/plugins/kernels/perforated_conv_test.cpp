// Every kernel of PerforatedConv on the emulator, against the op's definition in double precision.
#include <gtest/gtest.h>

#include "expect_conv.hpp"
#include "schedules.hpp"

namespace pagdeploy {
namespace {

using namespace testing;

ConvSpec tails() {
    ConvSpec spec;
    spec.name = "two images, ragged channels, dilation 4, add";
    spec.images = 2;
    spec.inputs = 72;
    spec.outputs = 40;
    spec.dilation = 4;
    spec.density = 0.7;
    spec.mode = kModeAdd;
    return spec;
}

ConvSpec severalTiles() {
    ConvSpec spec;
    spec.name = "more tiles than blocks";
    spec.height = 18;
    spec.width = 19;
    spec.outputs = 136;
    spec.density = 0.9;
    return spec;
}

TEST(PerforatedConv, EveryVariantUnderEverySchedule) {
    for (int i = 0; i < perforatedConvVariants(); ++i) {
        underEverySchedule([&] { expectRightInItsType(tails(), i); });
    }
}

TEST(PerforatedConv, EveryVariantWalksOverSeveralTiles) {
    const emulator::Options before = emulator::options;
    for (int i = 0; i < perforatedConvVariants(); ++i) {
        emulator::options.schedule = emulator::Schedule(i % emulator::kSchedules);
        expectRightInItsType(severalTiles(), i);
    }
    emulator::options = before;
}

std::vector<ConvSpec> hardCases() {
    std::vector<ConvSpec> specs;
    auto add = [&](const char* name, auto&& change) {
        ConvSpec spec;
        spec.name = name;
        change(spec);
        specs.push_back(spec);
    };
    add("nothing active", [](ConvSpec& s) { s.density = 0.0; });
    add("nothing active, add", [](ConvSpec& s) {
        s.density = 0.0;
        s.mode = kModeAdd;
    });
    add("everything active", [](ConvSpec& s) { s.density = 1.1; });
    add("one pixel", [](ConvSpec& s) { s.onlyPixel = 60; });
    add("a border pixel, dilation beyond the map", [](ConvSpec& s) {
        s.onlyPixel = 10;
        s.dilation = 20;
    });
    add("three images", [](ConvSpec& s) { s.images = 3; });
    add("per image", [](ConvSpec& s) {
        s.images = 4;
        s.perImage = true;
    });
    add("one value as base", [](ConvSpec& s) { s.baseIsOneValue = true; });
    add("one value as base, add", [](ConvSpec& s) {
        s.baseIsOneValue = true;
        s.mode = kModeAdd;
    });
    add("one pixel in all", [](ConvSpec& s) {
        s.height = 1;
        s.width = 1;
        s.density = 1.1;
    });
    add("stride 2", [](ConvSpec& s) {
        s.stride = 2;
        s.height = 13;
        s.width = 14;
    });
    add("stride 2, dilation 2, no padding", [](ConvSpec& s) {
        s.stride = 2;
        s.noPadding = true;
        s.dilation = 2;
    });
    add("a pixel that reads padding alone", [](ConvSpec& s) {
        s.extraPadding = 5;
        s.onlyPixel = 0;
    });
    add("1x1", [](ConvSpec& s) { s.kernel = 1; });
    add("5x5", [](ConvSpec& s) { s.kernel = 5; });
    add("groups", [](ConvSpec& s) {
        s.groups = 4;
        s.inputs = 96;
        s.outputs = 32;
    });
    add("padded rows", [](ConvSpec& s) {
        s.inputs = 40;
        s.outputs = 24;
        s.pitchPadding = 8;
    });
    add("no activation", [](ConvSpec& s) { s.activation = kActivationNone; });
    add("relu6", [](ConvSpec& s) { s.activation = kActivationRelu6; });
    add("leaky relu, add", [](ConvSpec& s) {
        s.activation = kActivationLeakyRelu;
        s.mode = kModeAdd;
    });
    add("seven branches", [](ConvSpec& s) {
        s.branches = 7;
        s.height = 16;
        s.width = 17;
        s.density = 0.8;
    });
    return specs;
}

template <typename Element>
void expectHardCases(const char* variant) {
    const emulator::Options before = emulator::options;
    int turn = 0;
    for (const ConvSpec& spec : hardCases()) {
        emulator::options.schedule = emulator::Schedule(turn++ % emulator::kSchedules);
        expectRight<Element>(spec, variantNamed(variant));
    }
    emulator::options = before;
}

TEST(PerforatedConv, HardCasesOnTensorCores) { expectHardCases<Half>("half_64x64"); }
TEST(PerforatedConv, HardCasesOnWarpgroups) { expectHardCases<Half>("half_wgmma_128x64"); }
TEST(PerforatedConv, HardCasesInExactFloat) { expectHardCases<float>("float_64x64"); }

TEST(PerforatedConv, HardCasesOnTheDirectKernel) {
    std::vector<ConvSpec> specs = hardCases();
    auto add = [&](const char* name, int inputs, int outputs, int groups, int kernel) {
        ConvSpec spec;
        spec.name = name;
        spec.inputs = inputs;
        spec.outputs = outputs;
        spec.groups = groups;
        spec.kernel = kernel;
        specs.push_back(spec);
    };
    add("depthwise", 24, 24, 24, 3);
    add("depthwise with a multiplier", 6, 18, 6, 3);
    add("channels no multiple of eight", 7, 5, 1, 3);
    add("49 taps", 8, 8, 1, 7);
    for (const ConvSpec& spec : specs) {
        expectRight<Half>(spec, kDirectVariant);
        expectRight<float>(spec, kDirectVariant);
    }
    expectRight<BFloat16>(specs.back(), kDirectVariant);
}

TEST(PerforatedConv, ResultsDoNotDependOnGridNorSchedule) {
    const ConvCase<Half> conv = makeConv<Half>(tails(), 3);
    const emulator::Options before = emulator::options;
    std::vector<std::vector<Half>> outputs;
    for (int multiprocessors : {1, 3, 50}) {
        emulator::options.multiprocessors = multiprocessors;
        PerforatedConvPlan plan{};
        ASSERT_EQ(planPerforatedConv(conv.problem, variantNamed("half_64x64"), &plan),
                  cudaSuccess);
        outputs.push_back(poisonedOutput(conv));
        ASSERT_EQ(runKernels(conv, plan, &outputs.back()), cudaSuccess);
    }
    emulator::options = before;
    for (const auto& output : outputs) {
        EXPECT_EQ(std::memcmp(output.data(), outputs[0].data(), output.size() * 2), 0);
    }
}

TEST(PerforatedConv, LeavesInactivePixelsAloneIfAsked) {
    ConvCase<Half> conv = makeConv<Half>(tails(), 5);
    conv.problem.fillInactive = false;
    PerforatedConvPlan plan{};
    for (int variant : {variantNamed("half_64x64"), kDirectVariant}) {
        ASSERT_EQ(planPerforatedConv(conv.problem, variant, &plan), cudaSuccess);
        std::vector<Half> output = poisonedOutput(conv);
        ASSERT_EQ(runKernels(conv, plan, &output), cudaSuccess);
        for (int pixel = 0; pixel < conv.outputPixels(); ++pixel) {
            const bool active = conv.listOf(pixel) == 0;
            const Half first = output[at((long long)pixel * conv.problem.outputPitch)];
            ASSERT_EQ(std::isnan(toFloat(first)), !active) << "pixel " << pixel;
        }
    }
}

TEST(PerforatedConv, PlansWhatFitsTheDevice) {
    const emulator::Options before = emulator::options;
    const PerforatedConvProblem problem = problemOf(severalTiles(), DataType::kBFloat16);
    PerforatedConvPlan plan{};
    emulator::options.computeCapability = 75;
    emulator::options.sharedBytesPerBlock = 64 * 1024;
    ASSERT_EQ(planPerforatedConv(problem, &plan), cudaSuccess);
    EXPECT_EQ(plan.variant, kDirectVariant);
    const PerforatedConvProblem half = problemOf(severalTiles(), DataType::kFloat16);
    ASSERT_EQ(planPerforatedConv(half, &plan), cudaSuccess);
    EXPECT_NE(plan.variant, kDirectVariant);
    EXPECT_LE(plan.sharedBytes, 64 * 1024);
    EXPECT_FALSE(perforatedConvVariantFits(half, variantNamed("half_128x128")));
    EXPECT_EQ(planPerforatedConv(half, variantNamed("half_128x128"), &plan),
              cudaErrorNotSupported);
    emulator::options = before;
}

TEST(PerforatedConv, RefusesMisalignedPointersAndAnOutputOverItsInput) {
    ConvSpec spec;
    spec.name = "misaligned";
    const ConvCase<Half> conv = makeConv<Half>(spec, 5);
    PerforatedConvPlan plan{};
    ASSERT_EQ(planPerforatedConv(conv.problem, variantNamed("half_64x64"), &plan), cudaSuccess);
    std::vector<Half> output = poisonedOutput(conv);
    EXPECT_EQ(runKernels(conv, plan, &output, 1), cudaErrorMisalignedAddress);
    ASSERT_EQ(planPerforatedConv(conv.problem, kDirectVariant, &plan), cudaSuccess);
    EXPECT_EQ(runKernels(conv, plan, &output, 1), cudaSuccess);
    PerforatedConvBuffers buffers{};
    alignas(16) static Half memory[8];
    buffers.input = memory;
    buffers.output = memory;
    EXPECT_EQ(launchPerforatedConv(conv.problem, plan, buffers, PixelLists{}, nullptr),
              cudaErrorInvalidValue);
}

}  // namespace
}  // namespace pagdeploy
