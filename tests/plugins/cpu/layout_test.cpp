// Maps turned to channels last and back, on every instruction set, element by element.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "hosts.hpp"
#include "perforated_conv/cpu/activation.hpp"
#include "perforated_conv/cpu/layout.hpp"
#include "perforated_conv/geometry.hpp"

namespace pagdeploy::testing {
namespace {

using cpu::MapSize;

// Below, at and above vectors, squares of them, and the blocks of a task.
const MapSize kSizes[] = {{1, 1, 1},    {1, 16, 16},  {2, 3, 49},    {1, 40, 5},   {3, 17, 65},
                          {1, 64, 128}, {2, 257, 49}, {1, 300, 130}, {1, 519, 64}, {0, 8, 8},
                          {1, 8, 0}};

// Exactly as many floats as there are, so that AddressSanitizer guards both ends.
std::vector<float> values(const MapSize& size) {
    std::mt19937 random(7);
    std::vector<float> result(size.images * size.channels * size.pixels);
    for (float& value : result) {
        value = float(random() % 2001) / 100.0f - 10.0f;
    }
    return result;
}

TEST(Layout, EachValueMovesAndIsBent) {
    for (const cpu::InstructionSet* isa : cpu::instructionSets()) {
        for (const MapSize& size : kSizes) {
            for (const int activation :
                 {kActivationNone, kActivationRelu, kActivationRelu6, kActivationLeakyRelu}) {
                const cpu::Bend bend = cpu::bendOf(activation, 0.25f);
                const std::vector<float> first = values(size);
                std::vector<float> last(first.size(), NAN);
                TestHost host(2);
                cpu::toChannelsLast(size, first.data(), bend, last.data(), *isa, host);
                for (std::size_t i = 0; i < first.size(); ++i) {
                    const std::size_t image = i / (size.channels * size.pixels);
                    const std::size_t channel = i / size.pixels % size.channels;
                    const std::size_t pixel = i % size.pixels;
                    ASSERT_EQ(last[(image * size.pixels + pixel) * size.channels + channel],
                              cpu::bend(first[i], bend))
                        << isa->name << ", " << size.channels << " channels of " << size.pixels
                        << " pixels, number " << i;
                }
            }
        }
    }
}

TEST(Layout, ThereAndBackIsTheSame) {
    for (const cpu::InstructionSet* isa : cpu::instructionSets()) {
        for (const MapSize& size : kSizes) {
            const std::vector<float> first = values(size);
            std::vector<float> last(first.size(), NAN);
            std::vector<float> back(first.size(), NAN);
            TestHost host(3);
            cpu::toChannelsLast(size, first.data(), cpu::bendOf(kActivationNone, 0.0f),
                                last.data(), *isa, host);
            cpu::toChannelsFirst(size, last.data(), back.data(), *isa, host);
            ASSERT_EQ(first, back) << isa->name << ", " << size.channels << " channels of "
                                   << size.pixels << " pixels";
        }
    }
}

TEST(Layout, NotANumberPasses) {
    const MapSize size{1, 32, 32};
    const std::vector<float> first(size.channels * size.pixels,
                                   std::numeric_limits<float>::quiet_NaN());
    for (const cpu::InstructionSet* isa : cpu::instructionSets()) {
        std::vector<float> last(first.size(), 0.0f);
        TestHost host;
        cpu::toChannelsLast(size, first.data(), cpu::bendOf(kActivationRelu6, 0.0f), last.data(),
                            *isa, host);
        for (const float value : last) {
            ASSERT_TRUE(std::isnan(value)) << isa->name;
        }
    }
}

}  // namespace
}  // namespace pagdeploy::testing
