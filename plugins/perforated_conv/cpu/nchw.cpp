#include "perforated_conv/cpu/nchw.hpp"

#include <algorithm>

#include "pag_gate/cpu.hpp"
#include "perforated_conv/cpu/activation.hpp"
#include "perforated_conv/cpu/layout.hpp"

namespace pagdeploy::cpu {

namespace {

constexpr std::size_t kChannelsPerTask = 16;  // one cache line of a computed row

// The list of active pixels, from decisions per pixel or per image.
std::size_t listActive(const NchwCall& call, const Grid& output, std::int32_t* pixels) {
    if (!call.selectionIsPerImage) {
        return listActivePixels(call.selection, static_cast<std::size_t>(output.pixels()),
                                call.branch, pixels);
    }
    const int perImage = output.height * output.width;
    std::size_t count = 0;
    for (int image = 0; image < output.images; ++image) {
        for (int i = 0; call.selection[image] == call.branch && i < perImage; ++i) {
            pixels[count++] = image * perImage + i;
        }
    }
    return count;
}

// Some channels of one image: base first, then what was computed.
void placePlanes(const NchwCall& call, const float* computed, const std::int32_t* pixels,
                 std::size_t firstRow, std::size_t endRow, std::size_t image, std::size_t perImage,
                 std::size_t channels, std::size_t first, std::size_t last) {
    const bool adds = call.mode == kModeAdd;
    const std::size_t firstPixel = image * perImage;
    for (std::size_t m = first; m < last; ++m) {
        const std::size_t plane = (image * channels + m) * perImage;
        float* y = call.y + plane;
        const float* base = call.baseIsOneValue ? nullptr : call.base + plane;
        // When adding, the activation waits until the sum is complete.
        if (base == nullptr) {
            std::fill_n(y, perImage, *call.base);
        } else if (base != y) {
            std::copy_n(base, perImage, y);
        }
        for (std::size_t row = firstRow; row < endRow; ++row) {
            float& here = y[static_cast<std::size_t>(pixels[row]) - firstPixel];
            const float c = computed[row * channels + m];
            here = adds ? here + c : c;
        }
        if (adds && !isIdentity(call.bend)) {
            std::transform(y, y + perImage, y,
                           [by = call.bend](float value) { return bend(value, by); });
        }
    }
}

}  // namespace

void runNchw(const Convolution& convolution, const NchwCall& call, Host& host) {
    const KernelShape& shape = convolution.shape();
    const Grid output = shape.over(call.input).output;
    const auto channels = static_cast<std::size_t>(shape.outputChannels);
    const std::size_t outputs = static_cast<std::size_t>(output.height) * output.width;
    const std::size_t inputs = static_cast<std::size_t>(call.input.height) * call.input.width;

    HostArray<std::int32_t> pixels(host, static_cast<std::size_t>(output.pixels()));
    const std::size_t count = listActive(call, output, pixels.data());
    HostArray<float> computed(host, count * channels);
    if (count > 0) {
        HostArray<float> x(host, inputs * call.input.images * shape.inputChannels);
        const Bend asItIs = bendOf(kActivationNone, 0.0f);
        toChannelsLast({static_cast<std::size_t>(call.input.images),
                        static_cast<std::size_t>(shape.inputChannels), inputs},
                       call.x, asItIs, x.data(), convolution.isa(), host);
        convolution.run({call.input, x.data(), pixels.data(), count, nullptr, true, kModeReplace,
                         call.mode == kModeAdd ? asItIs : call.bend, Inactive::kDead,
                         computed.data(), true},
                        host);
    }
    const std::size_t blocks = ceilDivide(channels, kChannelsPerTask);
    host.parallelFor(output.images * blocks, [&](std::size_t task) {
        const std::size_t image = task / blocks;
        const std::size_t first = (task % blocks) * kChannelsPerTask;
        const std::int32_t* const list = pixels.data();
        const auto rowOf = [&](std::size_t pixel) {
            return static_cast<std::size_t>(
                std::lower_bound(list, list + count, static_cast<std::int64_t>(pixel)) - list);
        };
        placePlanes(call, computed.data(), list, rowOf(image * outputs),
                    rowOf((image + 1) * outputs), image, outputs, channels, first,
                    std::min(channels, first + kChannelsPerTask));
    });
}

}  // namespace pagdeploy::cpu
