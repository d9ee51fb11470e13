// One PerforatedConv in memory: made at random, computed plainly, computed by the kernels.
#pragma once

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "perforated_conv/cost.hpp"
#include "perforated_conv/launch.hpp"

namespace pagdeploy::testing {

inline std::size_t at(long long index) { return static_cast<std::size_t>(index); }

template <typename Element>
struct ConvCase {
    PerforatedConvProblem problem;
    std::vector<Element> input;
    std::vector<int> selection;
    std::vector<std::vector<Element>> weights;  // [branch]
    std::vector<std::vector<Element>> bias;
    std::vector<Element> base;

    int outputPixels() const { return problem.geometry.output.pixels(); }

    int listOf(int pixel) const {
        const Grid& grid = problem.geometry.output;
        const int image = pixel / (grid.height * grid.width);
        return problem.selection.listOf(
            selection[at(problem.selectionPerImage ? image : pixel)]);
    }

    double baseAt(int pixel, int channel) const {
        return toFloat(problem.baseIsOneValue
                           ? base[0]
                           : base[at((long long)pixel * problem.basePitch + channel)]);
    }
};

inline double activateExactly(double value, int activation, float alpha) {
    switch (activation) {
        case kActivationRelu:
            return value < 0 ? 0 : value;
        case kActivationRelu6:
            return value < 0 ? 0 : (value > 6 ? 6 : value);
        case kActivationLeakyRelu:
            return value < 0 ? double(alpha) * value : value;
        default:
            return value;
    }
}

// The op's definition, in double precision: what docs/ops.md says, and nothing of the kernels'
// geometry.
template <typename Element>
double expectedValue(const ConvCase<Element>& conv, int pixel, int channel) {
    const PerforatedConvProblem& problem = conv.problem;
    const ConvGeometry& g = problem.geometry;
    const int list = conv.listOf(pixel);
    const double base =
        list < problem.selection.branches && problem.mode == kModeReplace
            ? 0.0
            : conv.baseAt(pixel, channel);
    double sum = 0.0;
    if (list < problem.selection.branches) {
        const BranchGeometry& branch = problem.branch[list];
        const int x = pixel % g.output.width;
        const int y = pixel / g.output.width % g.output.height;
        const int n = pixel / (g.output.width * g.output.height);
        const int inputs = g.inputChannels / g.groups;
        const int group = channel / (g.outputChannels / g.groups);
        for (int ky = 0; ky < g.kernelHeight; ++ky) {
            for (int kx = 0; kx < g.kernelWidth; ++kx) {
                const int sy = y * g.strideY - branch.padTop + ky * branch.dilationY;
                const int sx = x * g.strideX - branch.padLeft + kx * branch.dilationX;
                if (sy < 0 || sy >= g.input.height || sx < 0 || sx >= g.input.width) {
                    continue;
                }
                const long long source = ((long long)n * g.input.height + sy) * g.input.width + sx;
                for (int c = 0; c < inputs; ++c) {
                    const Element value =
                        conv.input[at(source * problem.inputPitch + group * inputs + c)];
                    const Element weight =
                        conv.weights[at(list)]
                                    [at(channel * problem.weightOutputStride +
                                        (ky * g.kernelWidth + kx) * problem.weightTapStride +
                                        c * problem.weightChannelStride)];
                    sum += double(toFloat(value)) * double(toFloat(weight));
                }
            }
        }
        sum += toFloat(conv.bias[at(list)][at(channel)]);
        if (problem.mode == kModeReplace) {
            return activateExactly(sum, problem.activation, problem.alpha);
        }
    } else if (problem.mode == kModeReplace) {
        return base;
    }
    return activateExactly(base + sum, problem.activation, problem.alpha);
}

struct Comparison {
    double error = 0.0;  // max |a - b| / max |b|
    std::string firstBad;  // the first value that cannot be right at any precision
};

template <typename Element>
Comparison compare(const ConvCase<Element>& conv, const std::vector<Element>& output,
                   double bound) {
    double largest = 0.0;
    double worst = 0.0;
    const int channels = conv.problem.geometry.outputChannels;
    std::vector<double> expected(at((long long)conv.outputPixels() * channels));
    for (int pixel = 0; pixel < conv.outputPixels(); ++pixel) {
        for (int m = 0; m < channels; ++m) {
            const double value = expectedValue(conv, pixel, m);
            expected[at((long long)pixel * channels + m)] = value;
            largest = std::isfinite(value) ? std::max(largest, std::fabs(value)) : largest;
        }
    }
    Comparison result;
    for (int pixel = 0; pixel < conv.outputPixels(); ++pixel) {
        for (int m = 0; m < channels; ++m) {
            const double wanted = expected[at((long long)pixel * channels + m)];
            const double got =
                toFloat(output[at((long long)pixel * conv.problem.outputPitch + m)]);
            const double difference = std::fabs(got - wanted);
            const bool same =
                std::isfinite(wanted)
                    ? difference <= bound * std::max(largest, 1e-30)
                    : (std::isnan(wanted) ? std::isnan(got) : got == wanted);
            if (std::isfinite(difference)) {
                worst = std::max(worst, difference);
            }
            if (!same && result.firstBad.empty()) {
                result.firstBad = "pixel " + std::to_string(pixel) + ", channel " +
                                  std::to_string(m) + " (list " +
                                  std::to_string(conv.listOf(pixel)) + "): " +
                                  std::to_string(got) + " instead of " + std::to_string(wanted);
            }
        }
    }
    result.error = largest > 0 ? worst / largest : worst;
    return result;
}

// A buffer whose first element lies `shift` elements behind an address that is fit for 16-byte
// copies, and whose last element is the allocation's last: AddressSanitizer guards both ends.
template <typename Element>
class DeviceBuffer {
public:
    explicit DeviceBuffer(const std::vector<Element>& values, int shift = 0) {
        const std::size_t bytes = (values.size() + at(shift)) * sizeof(Element);
        if (posix_memalign(&memory_, 128, std::max<std::size_t>(bytes, 1)) != 0) {
            std::abort();
        }
        size_ = values.size();
        first_ = static_cast<Element*>(memory_) + shift;
        std::copy(values.begin(), values.end(), first_);
    }
    DeviceBuffer(const DeviceBuffer&) = delete;
    DeviceBuffer& operator=(const DeviceBuffer&) = delete;
    ~DeviceBuffer() { std::free(memory_); }

    Element* data() { return first_; }
    std::vector<Element> values() const { return {first_, first_ + size_}; }

private:
    void* memory_ = nullptr;
    Element* first_ = nullptr;
    std::size_t size_ = 0;
};

// Runs the plan on poisoned output and workspace.
template <typename Element>
cudaError_t runKernels(const ConvCase<Element>& conv, const PerforatedConvPlan& plan,
                       std::vector<Element>* output, int shift = 0) {
    const PerforatedConvProblem& problem = conv.problem;
    DeviceBuffer<Element> input(conv.input, shift);
    DeviceBuffer<int> selection(conv.selection);
    DeviceBuffer<Element> base(conv.base);
    std::vector<std::unique_ptr<DeviceBuffer<Element>>> parameters;
    PerforatedConvBuffers buffers{};
    for (int b = 0; b < problem.selection.branches; ++b) {
        parameters.push_back(std::make_unique<DeviceBuffer<Element>>(conv.weights[at(b)]));
        buffers.weights[b] = parameters.back()->data();
        parameters.push_back(std::make_unique<DeviceBuffer<Element>>(conv.bias[at(b)]));
        buffers.bias[b] = parameters.back()->data();
    }
    DeviceBuffer<Element> result(*output);
    DeviceBuffer<unsigned char> workspace(
        std::vector<unsigned char>(perforatedConvWorkspaceBytes(problem), 0xA5));
    buffers.input = input.data();
    buffers.selection = selection.data();
    buffers.base = base.data();
    buffers.output = result.data();
    buffers.workspace = workspace.data();
    const cudaError_t error = launchPerforatedConv(problem, plan, buffers, nullptr);
    *output = result.values();
    return error;
}

// NaN everywhere: an unwritten value shows.
template <typename Element>
std::vector<Element> poisonedOutput(const ConvCase<Element>& conv) {
    const auto size = (long long)conv.outputPixels() * conv.problem.outputPitch;
    return std::vector<Element>(at(size), fromFloat<Element>(NAN));
}

}  // namespace pagdeploy::testing
