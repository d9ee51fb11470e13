// The op's literal form, channels first, against the same definition.
#include "conv_problem.hpp"
#include "perforated_conv/cpu/layout.hpp"
#include "perforated_conv/cpu/nchw.hpp"

namespace pagdeploy::testing {
namespace {

std::vector<float> channelsFirst(const std::vector<float>& from, const Grid& grid, int channels) {
    const int perImage = grid.height * grid.width;
    std::vector<float> to(from.size());
    for (int pixel = 0; pixel < grid.pixels(); ++pixel) {
        for (int c = 0; c < channels; ++c) {
            const int image = pixel / perImage;
            to[(std::size_t(image) * channels + c) * perImage + pixel % perImage] =
                from[std::size_t(pixel) * channels + c];
        }
    }
    return to;
}

std::vector<float> channelsLast(const std::vector<float>& from, std::size_t images,
                                std::size_t channels) {
    std::vector<float> to(from.size());
    TestHost host;
    cpu::toChannelsLast({images, channels, from.size() / images / channels}, from.data(),
                        cpu::bendOf(kActivationNone, 0.0f), to.data(),
                        *cpu::instructionSets()[0], host);
    return to;
}

class EachProblemNchw : public ::testing::TestWithParam<ProblemSpec> {};

TEST_P(EachProblemNchw, IsAsDefined) {
    ProblemSpec spec = GetParam();
    spec.inactive = cpu::Inactive::kDefine;
    const Problem p = makeProblem(spec);
    for (const bool inPlace : {false, true}) {
        if (inPlace && spec.baseIsOneValue) {
            continue;
        }
        std::vector<std::int32_t> selection(p.outputs(), 0);
        for (const std::int32_t pixel : p.pixels) {
            selection[pixel] = 5;
        }
        const std::vector<float> x = channelsFirst(p.x, spec.input, spec.inputs);
        const std::vector<float> base =
            spec.baseIsOneValue ? p.base
                                : channelsFirst(p.base, p.geometry.output, spec.outputs);
        std::vector<float> y = inPlace ? base : poisoned(p);
        TestHost host(2);
        runNchw(convolutionOf(p, *cpu::instructionSets()[0]),
                {spec.input, x.data(), selection.data(), false, 5,
                 inPlace ? y.data() : base.data(), spec.baseIsOneValue, spec.mode,
                 cpu::bendOf(spec.activation, p.alpha), y.data()},
                host);
        expectDefined(p, channelsLast(y, std::size_t(p.geometry.output.images),
                                      std::size_t(spec.outputs)));
    }
}

INSTANTIATE_TEST_SUITE_P(Nchw, EachProblemNchw, ::testing::ValuesIn(problemSpecs()),
                         [](const auto& info) {
                             return std::string(info.param.name) + "_" +
                                    std::to_string(info.index);
                         });

TEST(Nchw, OneDecisionPerImage) {
    ProblemSpec spec{"per_image"};
    spec.input = {3, 5, 6};
    spec.density = 0;
    Problem p = makeProblem(spec);
    for (int pixel = 30; pixel < 60; ++pixel) {  // all of the second image
        p.pixels.push_back(pixel);
    }
    p.x.assign(p.x.size(), 0.25f);
    const std::vector<float> x = p.x;
    const std::vector<float> base = channelsFirst(p.base, p.geometry.output, spec.outputs);
    const std::int32_t selection[] = {0, 1, 2};
    std::vector<float> y = poisoned(p);
    TestHost host;
    runNchw(convolutionOf(p, *cpu::instructionSets()[0]),
            {spec.input, x.data(), selection, true, 1, base.data(), false, spec.mode,
             cpu::bendOf(spec.activation, p.alpha), y.data()},
            host);
    expectDefined(p, channelsLast(y, 3, std::size_t(spec.outputs)));
}

}  // namespace
}  // namespace pagdeploy::testing
