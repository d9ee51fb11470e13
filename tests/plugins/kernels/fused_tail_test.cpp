// The fused tail of a bottleneck on the emulator: two convolutions, the middle rounded once.
#include <gtest/gtest.h>

#include "conv_maker.hpp"
#include "perforated_conv/fused_tail.hpp"
#include "perforated_conv/support.hpp"
#include "schedules.hpp"

namespace pagdeploy {
namespace {

using namespace testing;

template <typename Element>
struct Tail {
    ConvCase<Element> gathered;
    ConvCase<Element> pointwise;
    FusedTailProblem problem;
};

template <typename Element>
Tail<Element> makeTail(const ConvSpec& spec, int outer) {
    Tail<Element> tail;
    tail.gathered = makeConv<Element>(spec, 21);
    ConvSpec last = spec;
    last.inputs = spec.outputs;
    last.outputs = outer;
    last.kernel = 1;
    last.dilation = 1;
    last.mode = kModeAdd;
    tail.pointwise = makeConv<Element>(last, 22);
    tail.pointwise.selection = tail.gathered.selection;
    const auto middle = (long long)tail.gathered.outputPixels() * spec.outputs;
    tail.pointwise.input.assign(at(middle), fromFloat<Element>(NAN));
    for (int pixel = 0; pixel < tail.gathered.outputPixels(); ++pixel) {
        for (int m = 0; tail.gathered.listOf(pixel) == 0 && m < spec.outputs; ++m) {
            tail.pointwise.input[at((long long)pixel * spec.outputs + m)] =
                fromFloat<Element>(float(expectedValue(tail.gathered, pixel, m)));
        }
    }
    tail.problem = {tail.gathered.problem, tail.pointwise.problem};
    return tail;
}

template <typename Element>
void expectRight(const ConvSpec& spec, int outer, double bound, bool inPlace = false) {
    SCOPED_TRACE(std::string(spec.name) + ", schedule " +
                 std::to_string(int(emulator::options.schedule)));
    Tail<Element> tail = makeTail<Element>(spec, outer);
    ASSERT_EQ(faultOf(tail.problem), nullptr);
    FusedTailPlan plan{};
    ASSERT_EQ(planFusedTail(tail.problem, &plan), cudaSuccess);
    DeviceBuffer<Element> input(tail.gathered.input);
    DeviceBuffer<Element> weights(tail.gathered.weights[0]);
    DeviceBuffer<Element> bias(tail.gathered.bias[0]);
    DeviceBuffer<Element> lastWeights(tail.pointwise.weights[0]);
    DeviceBuffer<Element> lastBias(tail.pointwise.bias[0]);
    DeviceBuffer<Element> base(tail.pointwise.base);
    DeviceBuffer<Element> output(poisonedOutput(tail.pointwise));
    DeviceBuffer<int> selection(tail.pointwise.selection);
    DeviceBuffer<unsigned char> workspace(
        std::vector<unsigned char>(fusedTailWorkspaceBytes(tail.problem), 0xA5));
    PerforatedConvBuffers first{};
    first.input = input.data();
    first.weights[0] = weights.data();
    first.bias[0] = bias.data();
    PerforatedConvBuffers second{};
    second.selection = selection.data();
    second.weights[0] = lastWeights.data();
    second.bias[0] = lastBias.data();
    second.base = base.data();
    second.output = inPlace ? base.data() : output.data();
    second.workspace = workspace.data();
    ASSERT_EQ(launchFusedTail(tail.problem, plan, first, second, nullptr), cudaSuccess);
    const Comparison result =
        compare(tail.pointwise, inPlace ? base.values() : output.values(), bound);
    EXPECT_EQ(result.firstBad, "") << "error " << result.error;
}

ConvSpec bottleneck(const char* name, int middle) {
    ConvSpec spec;
    spec.name = name;
    spec.inputs = middle;
    spec.outputs = middle;
    spec.dilation = 2;
    spec.density = 0.8;
    return spec;
}

TEST(FusedTail, EveryWidthUnderEverySchedule) {
    underEverySchedule([] {
        expectRight<Half>(bottleneck("64", 64), 200, 2e-3);
        expectRight<BFloat16>(bottleneck("64, bfloat16", 64), 64, 1.6e-2);
    });
    expectRight<Half>(bottleneck("128", 128), 136, 2e-3);
    expectRight<Half>(bottleneck("256", 256), 128, 2e-3);
}

TEST(FusedTail, EmptyFullInPlaceAndSeveralTiles) {
    ConvSpec spec = bottleneck("nothing active", 64);
    spec.density = 0.0;
    expectRight<Half>(spec, 72, 2e-3);
    spec = bottleneck("everything active, in place, several tiles", 64);
    spec.density = 1.1;
    spec.height = 16;
    spec.width = 17;
    underEverySchedule([&] { expectRight<Half>(spec, 72, 2e-3, true); });
}

TEST(FusedTail, WalksTheMapWhereNearlyAllIsActive) {
    ConvSpec spec = bottleneck("about a sixteenth inactive", 64);
    spec.height = 16;
    spec.width = 17;
    for (const int inactive : {1, 17, 18}) {
        spec.inactivePixels = inactive;
        underEverySchedule([&] { expectRight<Half>(spec, 72, 2e-3, inactive == 17); });
    }
}

void expectSupport(const ConvSpec& spec) {
    SCOPED_TRACE(spec.name);
    const ConvCase<Half> conv = makeConv<Half>(spec, 31);
    DeviceBuffer<int> selection(conv.selection);
    DeviceBuffer<unsigned char> workspace(
        std::vector<unsigned char>(supportWorkspaceBytes(conv.problem), 0xA5));
    PixelLists lists{};
    ASSERT_EQ(launchSupport(conv.problem, selection.data(), workspace.data(), nullptr, &lists),
              cudaSuccess);
    const std::vector<bool> expected = seenInputs(conv);
    std::vector<bool> listed(expected.size(), false);
    for (int i = 0; i < lists.counts[0]; ++i) {
        ASSERT_FALSE(listed[at(lists.pixels[i])]) << "listed twice";
        listed[at(lists.pixels[i])] = true;
    }
    EXPECT_EQ(listed, expected);
    EXPECT_EQ(lists.counts[0] + lists.counts[1], int(expected.size()));
}

TEST(Support, IsWhatActivePixelsRead) {
    underEverySchedule([] {
        ConvSpec spec;
        spec.name = "dilation 2, two images";
        spec.images = 2;
        spec.inputs = spec.outputs = 8;
        spec.dilation = 2;
        spec.density = 0.1;
        expectSupport(spec);
        spec.name = "stride 2, 5x5";
        spec.stride = 2;
        spec.dilation = 1;
        spec.kernel = 5;
        expectSupport(spec);
        spec.name = "per image";
        spec.perImage = true;
        spec.density = 0.5;
        expectSupport(spec);
    });
    ConvSpec large;
    large.name = "two launches";
    large.inputs = large.outputs = 8;
    large.height = 97;
    large.width = 99;
    large.density = 0.02;
    large.dilation = 4;
    expectSupport(large);
}

TEST(FusedTail, RefusesWhatDoesNotFitTogether) {
    Tail<Half> tail = makeTail<Half>(bottleneck("64", 64), 72);
    FusedTailProblem problem = tail.problem;
    problem.pointwise.geometry.inputChannels = 128;
    problem.pointwise.inputPitch = 128;
    EXPECT_STREQ(faultOf(problem), "the two convolutions of a fused tail do not fit together");
    problem = tail.problem;
    problem.pointwise.geometry.strideY = 2;
    EXPECT_STREQ(faultOf(problem), "the second convolution of a fused tail is a plain 1x1");
    FusedTailPlan plan{};
    const Tail<Half> odd = makeTail<Half>(bottleneck("72", 72), 72);
    EXPECT_EQ(planFusedTail(odd.problem, &plan), cudaErrorNotSupported);
}

}  // namespace
}  // namespace pagdeploy
