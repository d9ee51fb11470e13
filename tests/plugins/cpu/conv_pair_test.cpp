// Two convolutions in one against the same two, one after the other.
#include "conv_problem.hpp"
#include "perforated_conv/cpu/conv_pair.hpp"

namespace pagdeploy::testing {
namespace {

using cpu::InstructionSet;
using cpu::instructionSets;

struct PairSpec {
    ProblemSpec first;
    ProblemSpec second;
};

// The first one gives whatever comes out of it to the second, a pointwise one over its output map.
struct Pair {
    Pair(const PairSpec& spec, unsigned seed)
        : first(makeProblem(spec.first, seed)),
          second(makeProblem(secondOf(spec, first), seed + 1)) {
        second.pixels = first.pixels;
        if (second.spec.mode == kModeReplace && !second.spec.baseIsOneValue) {
            for (float& value : second.base) {  // drawn for other pixels
                value = std::isnan(value) ? 0.5f : value;
            }
        }
        second.x.assign(second.x.size(), kNaN);
        for (const std::int32_t pixel : first.pixels) {
            for (std::size_t m = 0; m < first.channels(); ++m) {
                second.x[pixel * first.channels() + m] = float(defined(first, pixel, int(m)));
            }
        }
    }

    static ProblemSpec secondOf(const PairSpec& spec, const Problem& first) {
        ProblemSpec second = spec.second;
        second.kernel = second.stride = second.groups = second.dilation = 1;
        second.input = first.geometry.output;
        second.inputs = spec.first.outputs;
        return second;
    }

    void expectRight(const InstructionSet& isa, int threads, bool inPlace = false) const {
        SCOPED_TRACE(std::string(first.spec.name) + ", " + isa.name);
        const auto made = [&](const Problem& p) {
            return std::make_shared<const cpu::Convolution>(convolutionOf(p, isa));
        };
        std::vector<float> y = inPlace ? second.base : poisoned(second);
        cpu::ConvCall call = callOf(second, y.data());
        call.input = first.spec.input;
        call.x = first.x.data();
        call.base = inPlace ? y.data() : call.base;
        TestHost host(threads);
        cpu::ConvPair(made(first), made(second))
            .run(call, cpu::bendOf(first.spec.activation, first.alpha), host);
        expectDefined(second, y);
    }

    Problem first;
    Problem second;
};

std::vector<PairSpec> pairSpecs() {
    std::vector<PairSpec> specs;
    for (ProblemSpec first : problemSpecs()) {
        first.mode = kModeReplace;
        first.baseIsOneValue = true;
        first.inactive = cpu::Inactive::kDead;
        ProblemSpec second{"second"};
        second.outputs = 24 + int(specs.size()) % 5 * 7;
        second.mode = int(specs.size()) % 2;
        second.activation = int(specs.size()) / 2 % 4;
        second.baseIsOneValue = specs.size() % 3 == 0;
        second.inactive = second.mode == kModeAdd ? cpu::Inactive::kDefine : cpu::Inactive::kBase;
        specs.push_back({first, second});
    }
    return specs;
}

class EachPair : public ::testing::TestWithParam<PairSpec> {};

TEST_P(EachPair, IsOneAfterTheOther) {
    const Pair pair(GetParam(), 7);
    for (const InstructionSet* isa : instructionSets()) {
        pair.expectRight(*isa, 1);
    }
    pair.expectRight(*instructionSets()[0], 3);
    if (!pair.second.spec.baseIsOneValue) {
        pair.expectRight(*instructionSets()[0], 2, true);
    }
}

INSTANTIATE_TEST_SUITE_P(ConvPair, EachPair, ::testing::ValuesIn(pairSpecs()),
                         [](const auto& info) {
                             return std::string(info.param.first.name) + "_" +
                                    std::to_string(info.index);
                         });

// More weights than stay in the cache, and few rows: the list goes through one after the other.
TEST(ConvPair, OfManyWeightsSharesThemOut) {
    PairSpec spec{{"many_weights"}, {"second"}};
    spec.first.outputs = 300;
    spec.second.outputs = 300;
    spec.second.mode = kModeAdd;
    const Pair pair(spec, 3);
    for (const InstructionSet* isa : instructionSets()) {
        pair.expectRight(*isa, 2);
    }
}

TEST(ConvPair, DrawnAtRandom) {
    std::mt19937 random(11);
    const auto among = [&](auto... values) {
        const int each[] = {values...};
        return each[random() % sizeof...(values)];
    };
    for (int i = 0; i < 60; ++i) {
        PairSpec spec{{"random"}, {"second"}};
        ProblemSpec& s = spec.first;
        s.input = {among(1, 1, 2), among(3, 8, 17), among(1, 5, 16, 23)};
        s.kernel = among(1, 3, 3, 5);
        s.stride = among(1, 1, 2);
        s.dilation = among(1, 1, 2, 3);
        s.inputs = s.outputs = among(4, 16, 33, 72, 130);
        s.groups = among(1, s.inputs);
        s.outputs = s.groups == 1 ? among(1, 24, 65) : s.outputs;
        s.activation = among(0, 1, 2, 3);
        s.density = 0.1 * among(0, 1, 3, 5, 9, 10);
        s.baseIsOneValue = true;
        s.inactive = cpu::Inactive::kDead;
        spec.second.outputs = among(1, 16, 40, 97);
        spec.second.mode = among(0, 1);
        spec.second.activation = among(0, 1, 2, 3);
        spec.second.baseIsOneValue = among(0, 1) == 1;
        const Pair pair(spec, random());
        pair.expectRight(*instructionSets()[std::size_t(i) % instructionSets().size()], 1 + i % 3);
    }
}

TEST(ConvPair, OverItsOwnInputReadsACopy) {
    PairSpec spec{{"own_input"}, {"second"}};
    spec.second.outputs = spec.first.inputs;
    spec.second.mode = kModeAdd;
    Pair pair(spec, 5);
    for (float& value : pair.first.x) {
        value = std::isnan(value) ? 0.5f : value;
    }
    pair.second.base = pair.first.x;
    const InstructionSet& isa = *instructionSets()[0];
    std::vector<float> y = pair.first.x;
    cpu::ConvCall call = callOf(pair.second, y.data());
    call.input = pair.first.spec.input;
    call.x = call.base = y.data();
    TestHost host;
    cpu::ConvPair(std::make_shared<const cpu::Convolution>(convolutionOf(pair.first, isa)),
                  std::make_shared<const cpu::Convolution>(convolutionOf(pair.second, isa)))
        .run(call, cpu::bendOf(pair.first.spec.activation, pair.first.alpha), host);
    expectDefined(pair.second, y);
}

}  // namespace
}  // namespace pagdeploy::testing
