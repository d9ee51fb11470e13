// Random perforated convolutions, channels last, and their definition as plain loops in doubles.
// Whatever must not be read is NaN.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <string>

#include "hosts.hpp"
#include "perforated_conv/cpu/activation.hpp"
#include "perforated_conv/cpu/convolution.hpp"

namespace pagdeploy::testing {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct ProblemSpec {
    const char* name;
    Grid input{1, 9, 11};
    int inputs = 40;
    int outputs = 40;
    int kernel = 3;
    int stride = 1;
    int dilation = 1;
    int groups = 1;
    double density = 0.5;
    int onlyPixel = -1;  // alone active, instead of a share
    int mode = kModeReplace;
    int activation = kActivationRelu;
    bool baseIsOneValue = false;
    cpu::Inactive inactive = cpu::Inactive::kDefine;
};

// How gtest names a failing case.
inline void PrintTo(const ProblemSpec& spec, std::ostream* out) { *out << spec.name; }

struct Problem {
    ProblemSpec spec;
    cpu::KernelShape shape;
    ConvGeometry geometry;
    std::vector<std::int32_t> pixels;
    std::vector<float> x, weights, bias, base;
    float alpha = 0.25f;

    std::size_t outputs() const { return static_cast<std::size_t>(geometry.output.pixels()); }
    std::size_t channels() const { return static_cast<std::size_t>(shape.outputChannels); }
    bool isActive(std::size_t pixel) const {
        return std::binary_search(pixels.begin(), pixels.end(), static_cast<std::int32_t>(pixel));
    }
};

inline cpu::KernelShape shapeOf(const ProblemSpec& s) {
    const int pad = s.dilation * (s.kernel / 2);
    return {s.kernel,  s.kernel, s.stride, s.stride, s.groups, s.inputs, s.outputs,
            {s.dilation, s.dilation, pad, pad}, pad, pad};
}

inline Problem makeProblem(const ProblemSpec& spec, unsigned seed = 7) {
    std::mt19937 random(seed);
    const auto draw = [&] { return std::uniform_real_distribution<float>(-1, 1)(random); };
    const auto fill = [&](std::vector<float>& values, std::size_t count) {
        values.resize(count);
        for (float& value : values) {
            value = draw();
        }
    };
    Problem p{spec, shapeOf(spec), {}, {}, {}, {}, {}, {}};
    p.geometry = p.shape.over(spec.input);
    for (int pixel = 0; pixel < p.geometry.output.pixels(); ++pixel) {
        const bool drawn = std::uniform_real_distribution<>(0, 1)(random) < spec.density;
        if (spec.onlyPixel >= 0 ? pixel == spec.onlyPixel : drawn) {
            p.pixels.push_back(pixel);
        }
    }
    fill(p.weights, std::size_t(spec.outputs) * (spec.inputs / spec.groups) * p.shape.taps());
    fill(p.bias, p.channels());
    // Half of the base is below zero, so that an activation shows; unless it was promised not to.
    fill(p.base, spec.baseIsOneValue ? 1 : p.outputs() * p.channels());
    for (float& value : p.base) {
        value = spec.inactive == cpu::Inactive::kBase ? std::fabs(value) : value;
    }
    if (spec.mode == kModeReplace && !spec.baseIsOneValue) {
        for (const std::int32_t pixel : p.pixels) {
            std::fill_n(p.base.begin() + pixel * spec.outputs, spec.outputs, kNaN);
        }
    }
    p.x.assign(std::size_t(spec.input.pixels()) * spec.inputs, kNaN);
    for (const std::int32_t pixel : p.pixels) {
        for (int tap = 0; tap < p.shape.taps(); ++tap) {
            const int source = p.geometry.tapSource(
                p.shape.reach, positionOf(p.geometry.output, pixel), tap);
            for (int c = 0; source >= 0 && c < spec.inputs; ++c) {
                float& value = p.x[std::size_t(source) * spec.inputs + c];
                value = std::isnan(value) ? draw() : value;
            }
        }
    }
    return p;
}

inline double activate(double value, int activation, double alpha) {
    switch (activation) {
        case kActivationRelu:
            return value < 0 ? 0 : value;
        case kActivationRelu6:
            return value < 0 ? 0 : value > 6 ? 6 : value;
        case kActivationLeakyRelu:
            return value < 0 ? alpha * value : value;
        default:
            return value;
    }
}

// The definition: Y[pixel, m].
inline double defined(const Problem& p, std::size_t pixel, int m) {
    const ProblemSpec& s = p.spec;
    const double base = p.base[s.baseIsOneValue ? 0 : pixel * p.channels() + m];
    const bool adds = s.mode == kModeAdd;
    if (!p.isActive(pixel)) {
        return adds ? activate(base, s.activation, p.alpha) : base;
    }
    const int perGroup = s.inputs / s.groups;
    const int group = m / (s.outputs / s.groups);
    double sum = p.bias[m];
    for (int tap = 0; tap < p.shape.taps(); ++tap) {
        const int source = p.geometry.tapSource(
            p.shape.reach, positionOf(p.geometry.output, int(pixel)), tap);
        for (int k = 0; source >= 0 && k < perGroup; ++k) {
            sum += double(p.x[std::size_t(source) * s.inputs + group * perGroup + k]) *
                   p.weights[(std::size_t(m) * perGroup + k) * p.shape.taps() + tap];
        }
    }
    return activate(adds ? base + sum : sum, s.activation, p.alpha);
}

// Every defined pixel of `y` is within the op's bound of the definition.
inline void expectDefined(const Problem& p, const std::vector<float>& y) {
    std::vector<double> wanted(y.size());
    double largest = 1e-30;
    for (std::size_t i = 0; i < y.size(); ++i) {
        wanted[i] = defined(p, i / p.channels(), int(i % p.channels()));
        largest = std::isfinite(wanted[i]) ? std::max(largest, std::fabs(wanted[i])) : largest;
    }
    for (std::size_t pixel = 0; pixel < p.outputs(); ++pixel) {
        if (p.spec.inactive == cpu::Inactive::kDead && !p.isActive(pixel)) {
            continue;
        }
        for (std::size_t m = 0; m < p.channels(); ++m) {
            const std::size_t i = pixel * p.channels() + m;
            ASSERT_NEAR(y[i], wanted[i], 1e-5 * largest)
                << "pixel " << pixel << (p.isActive(pixel) ? " (active)" : " (inactive)")
                << ", channel " << m;
        }
    }
}

inline cpu::ConvCall callOf(const Problem& p, float* y) {
    return {p.spec.input, p.x.data(), p.pixels.data(), p.pixels.size(), p.base.data(),
            p.spec.baseIsOneValue, p.spec.mode, cpu::bendOf(p.spec.activation, p.alpha),
            p.spec.inactive, y, false};
}

inline cpu::Convolution convolutionOf(const Problem& p, const cpu::InstructionSet& isa) {
    return {p.shape, p.weights.data(), p.bias.data(), isa};
}

// One copy a value, so that AddressSanitizer guards the end of the output.
inline std::vector<float> poisoned(const Problem& p) {
    return std::vector<float>(p.outputs() * p.channels(), kNaN);
}

// Shapes, densities, modes: what every form of the kernel must survive.
inline std::vector<ProblemSpec> problemSpecs() {
    std::vector<ProblemSpec> specs;
    const auto add = [&](const char* name, auto&& change) {
        ProblemSpec spec{name};
        change(spec);
        specs.push_back(spec);
    };
    using S = ProblemSpec&;
    add("plain", [](S) {});
    add("empty", [](S s) { s.density = 0; });
    add("full", [](S s) { s.density = 1; });
    add("one_pixel", [](S s) { s.onlyPixel = 47; });
    add("border_with_dilation_beyond_the_map", [](S s) { s.onlyPixel = 0, s.dilation = 12; });
    add("last_pixel", [](S s) { s.onlyPixel = 98; });
    add("batch", [](S s) { s.input = {3, 7, 5}; });
    add("pointwise", [](S s) { s.kernel = 1, s.inputs = 72, s.outputs = 24; });
    add("one_channel", [](S s) { s.inputs = 1, s.outputs = 1; });
    add("odd_channels", [](S s) { s.inputs = 13, s.outputs = 37; });
    add("one_pixel_map", [](S s) { s.input = {2, 1, 1}, s.density = 1; });
    add("even_kernel", [](S s) { s.kernel = 2; });
    add("large_kernel", [](S s) { s.kernel = 7, s.inputs = 3; });
    add("stride", [](S s) { s.stride = 2; });
    add("stride_dilation", [](S s) { s.stride = 2, s.dilation = 2, s.input = {2, 14, 10}; });
    add("groups", [](S s) { s.groups = 4, s.outputs = 24; });
    add("narrow_groups", [](S s) { s.groups = 20; });
    add("channel_multiplier", [](S s) { s.groups = 40, s.outputs = 80; });
    add("depthwise", [](S s) { s.groups = 40; });
    add("depthwise_odd", [](S s) { s.groups = s.inputs = s.outputs = 19; });
    add("depthwise_stride", [](S s) { s.groups = 40, s.stride = 2; });
    add("depthwise_wide", [](S s) {
        s.groups = s.inputs = s.outputs = 300, s.mode = kModeAdd;
    });
    add("deep", [](S s) { s.inputs = 900, s.outputs = 40, s.input = {1, 5, 5}; });
    add("very_deep_pointwise", [](S s) {
        s.kernel = 1, s.inputs = 3300, s.input = {1, 5, 5}, s.mode = kModeAdd;
    });
    for (const int outputs : {1, 2, 3, 4}) {
        add("few_outputs", [&](S s) { s.outputs = outputs, s.inputs = 64 + 5 * outputs; });
    }
    add("few_outputs_pointwise", [](S s) {
        s.kernel = 1, s.outputs = 2, s.inputs = 256, s.density = 1, s.mode = kModeAdd;
    });
    add("wide", [](S s) { s.outputs = 530, s.inputs = 8, s.input = {1, 13, 13}; });
    add("many_rows", [](S s) { s.input = {2, 40, 30}, s.inputs = 8, s.density = 0.9; });
    for (const int mode : {kModeReplace, kModeAdd}) {
        for (int activation = 0; activation < 4; ++activation) {
            for (const bool one : {false, true}) {
                add("mode_activation_base", [&](S s) {
                    s.mode = mode, s.activation = activation, s.baseIsOneValue = one;
                });
            }
        }
        add("base_is_kept", [&](S s) { s.mode = mode, s.inactive = cpu::Inactive::kBase; });
        add("dead", [&](S s) { s.mode = mode, s.inactive = cpu::Inactive::kDead; });
    }
    return specs;
}

}  // namespace pagdeploy::testing
