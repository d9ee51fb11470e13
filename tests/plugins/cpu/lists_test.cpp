// Gates, lists of active pixels and their support, each against its definition.
#include <cmath>

#include "conv_problem.hpp"
#include "pag_gate/cpu.hpp"
#include "perforated_conv/cpu/support.hpp"

namespace pagdeploy::testing {
namespace {

std::vector<std::int32_t> selected(const std::vector<float>& logits, const Grid& grid, int k) {
    std::vector<std::int32_t> selection(std::size_t(grid.pixels()), -1);
    TestHost host(2);
    selectBranches(logits.data(), grid, k, selection.data(), host);
    return selection;
}

TEST(Gate, TakesTheLargestLogitOfEachPixel) {
    const Grid grid{2, 70, 61};  // more than one task an image
    for (const int branches : {1, 2, 3, 16}) {
        std::mt19937 random(3);
        std::vector<float> logits(std::size_t(grid.pixels()) * branches);
        for (float& logit : logits) {
            logit = float(random() % 5);  // with ties
        }
        const auto selection = selected(logits, grid, branches);
        const int perImage = grid.height * grid.width;
        for (int pixel = 0; pixel < grid.pixels(); ++pixel) {
            const float* first = &logits[std::size_t(pixel / perImage) * branches * perImage +
                                         pixel % perImage];
            int best = 0;
            for (int b = 1; b < branches; ++b) {
                best = first[b * perImage] > first[best * perImage] ? b : best;
            }
            ASSERT_EQ(selection[pixel], best) << "pixel " << pixel << " of " << branches;
        }
    }
}

TEST(Gate, LowestIndexWinsATie) {
    EXPECT_EQ(selected({1, 1}, {1, 1, 1}, 2)[0], 0);
    EXPECT_EQ(selected({0, 2, 2}, {1, 1, 1}, 3)[0], 1);
    EXPECT_EQ(selected({0.0f, -0.0f}, {1, 1, 1}, 2)[0], 0);
}

TEST(ActivePixels, AreListedInOrder) {
    const std::vector<std::int32_t> selection = {2, 0, 2, 1, 2};
    std::vector<std::int32_t> pixels(selection.size());
    ASSERT_EQ(listActivePixels(selection.data(), 5, 2, pixels.data()), 3u);
    EXPECT_EQ(pixels[0], 0);
    EXPECT_EQ(pixels[1], 2);
    EXPECT_EQ(pixels[2], 4);
    EXPECT_EQ(listActivePixels(selection.data(), 5, 7, pixels.data()), 0u);
    EXPECT_EQ(listActivePixels(selection.data(), 0, 2, nullptr), 0u);
}

class EachSupport : public ::testing::TestWithParam<ProblemSpec> {};

TEST_P(EachSupport, IsWhatTheTapsRead) {
    const Problem p = makeProblem(GetParam());
    std::vector<std::int32_t> support(std::size_t(p.spec.input.pixels()));
    TestHost host;
    support.resize(cpu::listSupport(p.geometry, p.shape.reach, p.pixels.data(), p.pixels.size(),
                                    support.data(), host));
    std::vector<std::int32_t> wanted;
    for (int pixel = 0; pixel < p.spec.input.pixels(); ++pixel) {
        const auto isActive = [&](int output) { return p.isActive(std::size_t(output)); };
        if (p.geometry.isRead(p.shape.reach, positionOf(p.spec.input, pixel), isActive)) {
            wanted.push_back(pixel);
        }
    }
    EXPECT_EQ(support, wanted);
}

INSTANTIATE_TEST_SUITE_P(Support, EachSupport, ::testing::ValuesIn(problemSpecs()),
                         [](const auto& info) {
                             return std::string(info.param.name) + "_" +
                                    std::to_string(info.index);
                         });

TEST(InstructionSets, EndWithThePortableOne) {
    ASSERT_FALSE(cpu::instructionSets().empty());
    EXPECT_EQ(cpu::instructionSets().back(), &cpu::kPortable);
}

}  // namespace
}  // namespace pagdeploy::testing
