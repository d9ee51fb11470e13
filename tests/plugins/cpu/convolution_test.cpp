// The channels-last convolution against its definition, on every instruction set of this machine.
#include "conv_problem.hpp"

namespace pagdeploy::testing {
namespace {

using cpu::InstructionSet;
using cpu::instructionSets;

class EachProblem : public ::testing::TestWithParam<ProblemSpec> {};

void expectRight(const ProblemSpec& spec, const InstructionSet& isa, int threads) {
    SCOPED_TRACE(std::string(spec.name) + ", " + isa.name);
    const Problem p = makeProblem(spec);
    TestHost host(threads);
    std::vector<float> y = poisoned(p);
    convolutionOf(p, isa).run(callOf(p, y.data()), host);
    expectDefined(p, y);
}

TEST_P(EachProblem, IsAsDefined) {
    for (const InstructionSet* isa : instructionSets()) {
        expectRight(GetParam(), *isa, 1);
    }
}

TEST_P(EachProblem, IsAsDefinedOnThreads) { expectRight(GetParam(), *instructionSets()[0], 3); }

TEST_P(EachProblem, RunsInPlaceOnBase) {
    const ProblemSpec spec = GetParam();
    if (spec.baseIsOneValue) {
        return;  // there is no place
    }
    const Problem p = makeProblem(spec);
    TestHost host;
    std::vector<float> y = p.base;
    cpu::ConvCall call = callOf(p, y.data());
    call.base = y.data();
    convolutionOf(p, *instructionSets()[0]).run(call, host);
    expectDefined(p, y);
}

INSTANTIATE_TEST_SUITE_P(Convolution, EachProblem, ::testing::ValuesIn(problemSpecs()),
                         [](const auto& info) {
                             return std::string(info.param.name) + "_" +
                                    std::to_string(info.index);
                         });

// A finished row would be what its neighbours still read.
TEST(Convolution, OverItsOwnInputReadsACopy) {
    for (const InstructionSet* isa : instructionSets()) {
        for (const int mode : {kModeReplace, kModeAdd}) {
            ProblemSpec spec{"own_input"};
            spec.mode = mode;
            Problem p = makeProblem(spec);
            for (float& value : p.x) {
                value = std::isnan(value) ? 0.5f : value;
            }
            p.base = p.x;
            std::vector<float> y = p.x;
            cpu::ConvCall call = callOf(p, y.data());
            call.x = call.base = y.data();
            TestHost host;
            convolutionOf(p, *isa).run(call, host);
            expectDefined(p, y);
        }
    }
}

TEST(Convolution, WithoutAListComputesEveryPixel) {
    ProblemSpec spec{"full"};
    spec.density = 1;
    const Problem p = makeProblem(spec);
    std::vector<float> y = poisoned(p);
    cpu::ConvCall call = callOf(p, y.data());
    call.pixels = nullptr;
    TestHost host;
    convolutionOf(p, *instructionSets()[0]).run(call, host);
    expectDefined(p, y);
}

TEST(Convolution, CompactRowsAreThoseOfTheList) {
    const Problem p = makeProblem({"compact"});
    std::vector<float> rows(p.pixels.size() * p.channels(), kNaN);
    cpu::ConvCall call = callOf(p, rows.data());
    call.compact = true;
    TestHost host;
    convolutionOf(p, *instructionSets()[0]).run(call, host);
    std::vector<float> y = p.base;
    for (std::size_t row = 0; row < p.pixels.size(); ++row) {
        std::copy_n(rows.begin() + row * p.channels(), p.channels(),
                    y.begin() + p.pixels[row] * p.channels());
    }
    expectDefined(p, y);
}

TEST(Convolution, DeadRowsAreNotWritten) {
    ProblemSpec spec{"dead"};
    spec.inactive = cpu::Inactive::kDead;
    const Problem p = makeProblem(spec);
    std::vector<float> y(p.outputs() * p.channels(), 123.0f);
    TestHost host;
    convolutionOf(p, *instructionSets()[0]).run(callOf(p, y.data()), host);
    for (std::size_t pixel = 0; pixel < p.outputs(); ++pixel) {
        if (!p.isActive(pixel)) {
            ASSERT_EQ(y[pixel * p.channels()], 123.0f) << "pixel " << pixel;
        }
    }
}

// A NaN that belongs to a computed pixel is an answer, not a zero.
TEST(Convolution, NanGoesThroughEveryActivation) {
    for (const InstructionSet* isa : instructionSets()) {
        for (int activation = 0; activation < 4; ++activation) {
            for (const int groups : {1, 40}) {
                ProblemSpec spec{"nan"};
                spec.density = 1;
                spec.activation = activation;
                spec.groups = groups;
                Problem p = makeProblem(spec);
                p.bias.assign(p.bias.size(), kNaN);
                std::vector<float> y(p.outputs() * p.channels(), 1.0f);
                TestHost host;
                convolutionOf(p, *isa).run(callOf(p, y.data()), host);
                for (const float value : y) {
                    ASSERT_TRUE(std::isnan(value)) << isa->name << ", activation " << activation;
                }
            }
        }
    }
}

// Otherwise a 7x7 map runs on one core.
TEST(Convolution, SmallMapsAreSplitOverChannelsToo) {
    ProblemSpec spec{"small"};
    spec.input = {1, 7, 7};
    spec.outputs = 512;
    const Problem p = makeProblem(spec);
    std::vector<float> y = poisoned(p);
    TestHost host;
    cpu::ConvCall call = callOf(p, y.data());
    call.inactive = cpu::Inactive::kDead;
    convolutionOf(p, *instructionSets()[0]).run(call, host);
    EXPECT_GE(host.tasks, 16u);
}

TEST(Convolution, ServesConcurrentCalls) {
    const Problem p = makeProblem({"concurrent"});
    const cpu::Convolution convolution = convolutionOf(p, *instructionSets()[0]);
    std::vector<std::vector<float>> results(8, poisoned(p));
    std::vector<std::thread> threads;
    for (auto& y : results) {
        threads.emplace_back([&] {
            TestHost host(2);
            for (int i = 0; i < 10; ++i) {
                convolution.run(callOf(p, y.data()), host);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (const auto& y : results) {
        expectDefined(p, y);
    }
}

}  // namespace
}  // namespace pagdeploy::testing
