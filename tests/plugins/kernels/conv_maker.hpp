// Random PerforatedConvs from a short description. Whatever the op must not read is NaN or Inf.
#pragma once

#include <algorithm>

#include "conv_case.hpp"

namespace pagdeploy::testing {

struct ConvSpec {
    const char* name = "";
    int images = 1;
    int height = 9;
    int width = 11;
    int inputs = 64;
    int outputs = 64;
    int kernel = 3;
    int stride = 1;
    int dilation = 1;
    int groups = 1;
    double density = 0.5;
    int mode = kModeReplace;
    int activation = kActivationRelu;
    bool perImage = false;
    bool baseIsOneValue = false;
    // Several branches have the dilations 1, 2, 4, ... in place of `dilation`.
    int branches = 1;
    int pitchPadding = 0;
    bool allowTf32 = false;
    // With one active pixel: which one; otherwise drawn by density. The first one of a map with
    // extra padding reads nothing but padding.
    int onlyPixel = -1;
    // Not by chance: so many inactive pixels, so many of the branches in turn, the rest of
    // mainBranch.
    int inactivePixels = -1;
    int pixelsInTurn = 0;
    int mainBranch = 0;
    bool noPadding = false;
    int extraPadding = 0;
};

namespace detail {

inline float draw(std::mt19937& random) {
    return std::uniform_real_distribution<float>(-1.0f, 1.0f)(random);
}

template <typename Element>
Element unseen(std::mt19937& random) {
    return fromFloat<Element>(random() % 2 == 0 ? NAN : INFINITY);
}

// The lists of decisions whose numbers are given, in any order.
inline std::vector<int> listsInTurn(const ConvSpec& spec, int decisions, std::mt19937& random) {
    std::vector<int> lists(std::size_t(decisions), spec.mainBranch);
    for (int i = 0; i < spec.inactivePixels; ++i) {
        lists[at(i)] = spec.branches;
    }
    for (int i = 0; i < spec.pixelsInTurn; ++i) {
        lists[at(spec.inactivePixels + i)] = i % spec.branches;
    }
    std::shuffle(lists.begin(), lists.end(), random);
    return lists;
}

inline int selectionValue(int list, int branches) { return list < branches ? 2 * list + 1 : 0; }

}  // namespace detail

inline PerforatedConvProblem problemOf(const ConvSpec& spec, DataType type) {
    const Grid input{spec.images, spec.height, spec.width};
    const int pad =
        spec.noPadding ? 0 : spec.dilation * (spec.kernel / 2) + spec.extraPadding;
    const Grid output{
        spec.images,
        outputSize(spec.height, spec.kernel, spec.stride, spec.dilation, 2 * pad),
        outputSize(spec.width, spec.kernel, spec.stride, spec.dilation, 2 * pad)};
    const ConvGeometry geometry{input,       output,      spec.kernel, spec.kernel,
                                spec.stride, spec.stride, spec.groups, spec.inputs,
                                spec.outputs};
    PerforatedConvProblem problem = channelsLastProblem(
        type, geometry, {spec.dilation, spec.dilation, pad, pad}, 1);
    problem.selection.branches = spec.branches;
    for (int b = 0; b < spec.branches; ++b) {
        const int dilation = spec.branches == 1 ? spec.dilation : 1 << b;
        const int branchPad = spec.branches == 1 ? pad : dilation * (spec.kernel / 2);
        problem.selection.values[b] = detail::selectionValue(b, spec.branches);
        problem.branch[b] = {dilation, dilation, branchPad, branchPad};
    }
    problem.mode = spec.mode;
    problem.activation = spec.activation;
    problem.alpha = 0.25f;
    problem.selectionPerImage = spec.perImage;
    problem.baseIsOneValue = spec.baseIsOneValue;
    problem.allowTf32 = spec.allowTf32;
    problem.inputPitch += spec.pitchPadding;
    problem.outputPitch += spec.pitchPadding;
    problem.basePitch += spec.pitchPadding;
    return problem;
}

// Marks the input values that the convolution of some active pixel reads.
template <typename Element>
std::vector<bool> seenInputs(const ConvCase<Element>& conv) {
    const ConvGeometry& g = conv.problem.geometry;
    std::vector<bool> seen(at(g.input.pixels()), false);
    for (int pixel = 0; pixel < conv.outputPixels(); ++pixel) {
        const int list = conv.listOf(pixel);
        if (list == conv.problem.selection.branches) {
            continue;
        }
        const BranchGeometry& branch = conv.problem.branch[list];
        const PixelPosition place = positionOf(g.output, pixel);
        for (int tap = 0; tap < g.taps(); ++tap) {
            const int y = place.y * g.strideY - branch.padTop + tap / g.kernelWidth *
                          branch.dilationY;
            const int x = place.x * g.strideX - branch.padLeft + tap % g.kernelWidth *
                          branch.dilationX;
            if (y >= 0 && y < g.input.height && x >= 0 && x < g.input.width) {
                seen[at((place.image * g.input.height + y) * g.input.width + x)] = true;
            }
        }
    }
    return seen;
}

template <typename Element>
ConvCase<Element> makeConv(const ConvSpec& spec, unsigned seed) {
    std::mt19937 random(seed);
    ConvCase<Element> conv;
    conv.problem = problemOf(spec, ElementTraits<Element>::kType);
    const PerforatedConvProblem& problem = conv.problem;
    const ConvGeometry& g = problem.geometry;
    auto value = [&] { return fromFloat<Element>(detail::draw(random)); };

    const int decisions = spec.perImage ? spec.images : conv.outputPixels();
    conv.selection.resize(at(decisions));
    const std::vector<int> inTurn =
        spec.inactivePixels < 0 ? std::vector<int>() : detail::listsInTurn(spec, decisions, random);
    for (int i = 0; i < decisions; ++i) {
        if (!inTurn.empty()) {
            conv.selection[at(i)] = detail::selectionValue(inTurn[at(i)], spec.branches);
            continue;
        }
        const bool drawn = std::uniform_real_distribution<>(0, 1)(random) < spec.density;
        const bool active = spec.onlyPixel >= 0 ? i == spec.onlyPixel : drawn;
        const int list = active ? int(random() % unsigned(spec.branches)) : spec.branches;
        conv.selection[at(i)] = detail::selectionValue(list, spec.branches);
    }
    for (int b = 0; b < spec.branches; ++b) {
        std::vector<Element> weights(at((long long)g.outputChannels * problem.weightOutputStride));
        std::vector<Element> bias(at(g.outputChannels));
        for (auto& one : weights) {
            one = value();
        }
        for (auto& one : bias) {
            one = value();
        }
        conv.weights.push_back(std::move(weights));
        conv.bias.push_back(std::move(bias));
    }

    const std::vector<bool> seen = seenInputs(conv);
    conv.input.resize(at((long long)g.input.pixels() * problem.inputPitch));
    for (std::size_t i = 0; i < conv.input.size(); ++i) {
        const auto pitch = std::size_t(problem.inputPitch);
        const bool read = seen[i / pitch] && i % pitch < std::size_t(g.inputChannels);
        conv.input[i] = read ? value() : detail::unseen<Element>(random);
    }
    if (problem.baseIsOneValue) {
        conv.base = {value()};
        return conv;
    }
    conv.base.resize(at((long long)conv.outputPixels() * problem.basePitch));
    for (std::size_t i = 0; i < conv.base.size(); ++i) {
        const auto pitch = std::size_t(problem.basePitch);
        const bool active = conv.listOf(int(i / pitch)) < spec.branches;
        const bool read = i % pitch < std::size_t(g.outputChannels) &&
                          (problem.mode == kModeAdd || !active);
        conv.base[i] = read ? value() : detail::unseen<Element>(random);
    }
    return conv;
}

}  // namespace pagdeploy::testing
