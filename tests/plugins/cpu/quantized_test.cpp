// The 8-bit convolution against its definition, bit by bit, on every instruction set.
#include <cmath>

#include "conv_problem.hpp"
#include "perforated_conv/cpu/quantized_convolution.hpp"

namespace pagdeploy::testing {
namespace {

using cpu::QuantizedConvolution;
using cpu::QuantizedForm;
using cpu::QuantizedSet;
using cpu::quantizedSets;
using cpu::Units;

struct QuantizedProblem {
    ProblemSpec spec;
    cpu::KernelShape shape;
    ConvGeometry geometry;
    QuantizedForm form;
    std::vector<std::int32_t> pixels, bias;
    std::vector<std::uint8_t> x, base;
    std::vector<std::int8_t> weights;
    std::vector<float> scales;

    std::size_t outputs() const { return static_cast<std::size_t>(geometry.output.pixels()); }
    std::size_t channels() const { return static_cast<std::size_t>(shape.outputChannels); }
    bool isActive(std::size_t pixel) const {
        return std::binary_search(pixels.begin(), pixels.end(), static_cast<std::int32_t>(pixel));
    }
    bool skips(std::size_t pixel) const {
        return spec.inactive == cpu::Inactive::kDead && !isActive(pixel);
    }
};

QuantizedProblem makeQuantized(const ProblemSpec& spec, int xZero, int yZero, bool givesFloats) {
    std::mt19937 random(5);
    const auto draw = [&](int low, int high) {
        // Both ends often: that is where sums and results saturate.
        const int kind = std::uniform_int_distribution<>(0, 3)(random);
        const int between = std::uniform_int_distribution<>(low, high)(random);
        return kind == 0 ? low : kind == 1 ? high : between;
    };
    const Problem drawn = makeProblem(spec);
    QuantizedProblem p{spec, drawn.shape, drawn.geometry, {}, drawn.pixels, {}, {}, {}, {}, {}};
    const int taps = p.shape.taps();
    // Of the size that lets most results be told apart, and some saturate.
    const float y = 0.01f * std::sqrt(static_cast<float>(spec.inputs * taps)) * 150;
    const Units yUnits{y, yZero};
    const bool adds = spec.mode == kModeAdd;
    p.form = {{0.01f, xZero}, adds ? Units{y * 0.7f, 255 - yZero} : yUnits, yUnits,
              givesFloats, spec.mode, spec.activation == kActivationRelu};
    p.x.resize(std::size_t(spec.input.pixels()) * spec.inputs);
    p.weights.resize(std::size_t(spec.outputs) * spec.inputs * taps);
    p.base.resize(spec.baseIsOneValue ? 1 : p.outputs() * p.channels());
    p.bias.resize(p.channels());
    p.scales.resize(p.channels());
    for (auto& value : p.x) value = static_cast<std::uint8_t>(draw(0, 255));
    for (auto& value : p.weights) value = static_cast<std::int8_t>(draw(-128, 127));
    for (auto& value : p.base) value = static_cast<std::uint8_t>(draw(0, 255));
    for (auto& value : p.bias) value = draw(-20000, 20000);
    for (auto& value : p.scales) value = static_cast<float>(draw(50, 150)) * 0.01f;
    return p;
}

float reluOf(const QuantizedProblem& p, float value) {
    return p.form.relu && value < 0.0f ? 0.0f : value;
}

std::uint8_t quantized(float steps, int zero) {
    const auto whole = static_cast<double>(std::nearbyint(steps)) + zero;
    return static_cast<std::uint8_t>(std::min(255.0, std::max(0.0, whole)));
}

// The definition: y[pixel, m] as a float, which holds a byte, too.
float defined(const QuantizedProblem& p, std::size_t pixel, int m) {
    const QuantizedForm& f = p.form;
    const std::uint8_t byte = p.base[p.spec.baseIsOneValue ? 0 : pixel * p.channels() + m];
    const float base = static_cast<float>(byte - f.base.zero) * f.base.step;
    const bool adds = f.mode == kModeAdd;
    if (!p.isActive(pixel)) {
        const float shown = adds ? reluOf(p, base) : base;
        return f.givesFloats ? shown : adds ? quantized(shown / f.y.step, f.y.zero) : byte;
    }
    std::int64_t sum = p.bias[m];
    for (int tap = 0; tap < p.shape.taps(); ++tap) {
        const int source = p.geometry.tapSource(
            p.shape.reach, positionOf(p.geometry.output, int(pixel)), tap);
        for (int k = 0; source >= 0 && k < p.spec.inputs; ++k) {
            sum += (p.x[std::size_t(source) * p.spec.inputs + k] - f.x.zero) *
                   p.weights[(std::size_t(m) * p.spec.inputs + k) * p.shape.taps() + tap];
        }
    }
    const float scale = f.x.step * p.scales[m];
    const auto whole = static_cast<float>(sum);
    if (adds) {
        const float c = whole * scale;
        const float value = reluOf(p, c + base);
        return f.givesFloats ? value : quantized(value / f.y.step, f.y.zero);
    }
    if (f.givesFloats) {
        return reluOf(p, whole * scale);
    }
    return quantized(reluOf(p, whole * (scale / f.y.step)), f.y.zero);
}

// What is computed, with 77 wherever nothing was written.
struct Found {
    std::vector<std::uint8_t> bytes;
    std::vector<float> floats;

    float at(std::size_t i) const { return floats.empty() ? bytes[i] : floats[i]; }
};

Found computed(const QuantizedProblem& p, const QuantizedSet& isa, int threads = 1) {
    const QuantizedConvolution convolution(p.shape, p.weights.data(), p.bias.data(),
                                           p.scales.data(), p.form, isa);
    TestHost host(threads);
    const std::size_t size = p.outputs() * p.channels();
    Found y{std::vector<std::uint8_t>(p.form.givesFloats ? 0 : size, 77),
            std::vector<float>(p.form.givesFloats ? size : 0, 77.0f)};
    convolution.run({p.spec.input, p.x.data(), p.pixels.data(), p.pixels.size(), p.base.data(),
                     p.spec.baseIsOneValue, p.spec.inactive == cpu::Inactive::kDead,
                     p.form.givesFloats ? nullptr : y.bytes.data(),
                     p.form.givesFloats ? y.floats.data() : nullptr},
                    host);
    return y;
}

void expectExact(const QuantizedProblem& p, const Found& y) {
    for (std::size_t pixel = 0; pixel < p.outputs(); ++pixel) {
        for (std::size_t m = 0; m < p.channels(); ++m) {
            const float wanted = p.skips(pixel) ? 77.0f : defined(p, pixel, int(m));
            ASSERT_EQ(y.at(pixel * p.channels() + m), wanted)
                << "pixel " << pixel << (p.isActive(pixel) ? " (active)" : " (inactive)")
                << ", channel " << m;
        }
    }
}

// Those that the 8-bit kernels have: one group, no activation or ReLU.
std::vector<ProblemSpec> quantizedSpecs() {
    std::vector<ProblemSpec> specs;
    for (const ProblemSpec& spec : problemSpecs()) {
        if (spec.groups == 1 && spec.activation <= kActivationRelu) {
            specs.push_back(spec);
        }
    }
    return specs;
}

class EachQuantized : public ::testing::TestWithParam<ProblemSpec> {};

TEST_P(EachQuantized, IsExactlyAsDefined) {
    for (const QuantizedSet* isa : quantizedSets()) {
        for (const auto& [xZero, yZero] : {std::pair{0, 0}, {255, 255}, {128, 3}, {0, 255}}) {
            for (const bool givesFloats : {false, true}) {
                SCOPED_TRACE(std::string(isa->name) + ", zero points " + std::to_string(xZero) +
                             " and " + std::to_string(yZero) + (givesFloats ? ", floats" : ""));
                const QuantizedProblem p = makeQuantized(GetParam(), xZero, yZero, givesFloats);
                expectExact(p, computed(p, *isa));
            }
        }
    }
}

TEST_P(EachQuantized, IsExactOnThreads) {
    const QuantizedProblem p = makeQuantized(GetParam(), 3, 1, false);
    expectExact(p, computed(p, *quantizedSets().front(), 3));
}

TEST_P(EachQuantized, RunsInPlaceOnBase) {
    if (GetParam().baseIsOneValue) {
        return;  // there is no place
    }
    const QuantizedProblem p = makeQuantized(GetParam(), 3, 1, false);
    const QuantizedConvolution convolution(p.shape, p.weights.data(), p.bias.data(),
                                           p.scales.data(), p.form, *quantizedSets().front());
    TestHost host;
    Found y{p.base, {}};
    convolution.run({p.spec.input, p.x.data(), p.pixels.data(), p.pixels.size(), y.bytes.data(),
                     false, p.spec.inactive == cpu::Inactive::kDead, y.bytes.data(), nullptr},
                    host);
    for (std::size_t pixel = 0; pixel < p.outputs(); ++pixel) {
        for (std::size_t m = 0; m < p.channels() && !p.skips(pixel); ++m) {
            ASSERT_EQ(y.at(pixel * p.channels() + m), defined(p, pixel, int(m)));
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Quantized, EachQuantized, ::testing::ValuesIn(quantizedSpecs()),
                         [](const auto& info) {
                             return std::string(info.param.name) + "_" +
                                    std::to_string(info.index);
                         });

// Two products of the largest numbers leave 16 bits: what the usual instruction saturates at.
TEST(Quantized, LargestProductsDoNotSaturate) {
    for (const QuantizedSet* isa : quantizedSets()) {
        for (const int weight : {-128, 127}) {
            ProblemSpec spec{"largest"};
            spec.density = 1;
            spec.activation = kActivationNone;
            QuantizedProblem p = makeQuantized(spec, 0, 0, true);
            p.x.assign(p.x.size(), 255);
            p.weights.assign(p.weights.size(), static_cast<std::int8_t>(weight));
            expectExact(p, computed(p, *isa));
        }
    }
}

// Halves are rounded to the even neighbour, on both sides of zero.
TEST(Quantized, HalvesAreRoundedToEven) {
    for (const QuantizedSet* isa : quantizedSets()) {
        ProblemSpec spec{"halves", {1, 1, 1}};
        spec.kernel = spec.inputs = 1;
        spec.outputs = 17;
        spec.density = 1;
        spec.activation = kActivationNone;
        QuantizedProblem p = makeQuantized(spec, 0, 100, false);
        p.form.x.step = 0.5f;
        p.form.y.step = p.form.base.step = 1.0f;
        p.x = {1};
        p.scales.assign(p.scales.size(), 1.0f);
        p.bias.assign(p.bias.size(), 0);
        for (int m = 0; m < spec.outputs; ++m) {
            p.weights[std::size_t(m)] = static_cast<std::int8_t>(2 * m - 17);
        }
        const Found y = computed(p, *isa);
        for (int m = 0; m < spec.outputs; ++m) {
            const double half = (2 * m - 17) * 0.5;
            ASSERT_EQ(y.bytes[std::size_t(m)], 100 + std::nearbyint(half)) << isa->name;
            ASSERT_EQ(y.bytes[std::size_t(m)] % 2, 0);
        }
    }
}

TEST(Quantized, OverItsOwnInputReadsACopy) {
    ProblemSpec spec{"own_input"};
    QuantizedProblem p = makeQuantized(spec, 7, 7, false);
    p.base = p.x;
    const QuantizedConvolution convolution(p.shape, p.weights.data(), p.bias.data(),
                                           p.scales.data(), p.form, *quantizedSets().front());
    Found y{p.x, {}};
    TestHost host;
    convolution.run({spec.input, y.bytes.data(), p.pixels.data(), p.pixels.size(), y.bytes.data(),
                     false, false, y.bytes.data(), nullptr},
                    host);
    expectExact(p, y);
}

TEST(Quantized, WithoutAListComputesEveryPixel) {
    ProblemSpec spec{"full"};
    spec.density = 1;
    const QuantizedProblem p = makeQuantized(spec, 9, 4, false);
    const QuantizedConvolution convolution(p.shape, p.weights.data(), p.bias.data(),
                                           p.scales.data(), p.form, *quantizedSets().front());
    Found y{std::vector<std::uint8_t>(p.outputs() * p.channels(), 77), {}};
    TestHost host;
    convolution.run({spec.input, p.x.data(), nullptr, p.pixels.size(), p.base.data(), false, false,
                     y.bytes.data(), nullptr},
                    host);
    expectExact(p, y);
}

}  // namespace
}  // namespace pagdeploy::testing
