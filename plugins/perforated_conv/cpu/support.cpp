#include "perforated_conv/cpu/support.hpp"

#include <algorithm>
#include <cstring>

namespace pagdeploy::cpu {

namespace {

using Mark = std::uint8_t;

// The outputs o in [first, last) whose tap falls inside the input: 0 <= o * stride + shift < size.
struct Range {
    int first;
    int last;
};

Range insideRange(int outputs, int size, int stride, int shift) {
    const int first = shift >= 0 ? 0 : ceilDivide(-shift, stride);
    const int last = shift >= size ? 0 : (size - 1 - shift) / stride + 1;
    return {std::min(first, outputs), std::min(last, outputs)};
}

// A kernel is a rectangle of taps, so its reach is that of a column, then that of a row.
void markRows(const ConvGeometry& g, const BranchGeometry& reach, const Mark* active, Mark* rows) {
    const int width = g.output.width;  // a copy: for all the compiler knows, marks overlie `g`
    for (int tap = 0; tap < g.kernelHeight; ++tap) {
        const int shift = tap * reach.dilationY - reach.padTop;
        const Range inside = insideRange(g.output.height, g.input.height, g.strideY, shift);
        for (int y = inside.first; y < inside.last; ++y) {
            const Mark* from = active + static_cast<std::size_t>(y) * width;
            Mark* to = rows + static_cast<std::size_t>(y * g.strideY + shift) * width;
            for (int x = 0; x < width; ++x) {
                to[x] |= from[x];
            }
        }
    }
}

void markColumns(const ConvGeometry& g, const BranchGeometry& reach, const Mark* rows, Mark* read) {
    for (int tap = 0; tap < g.kernelWidth; ++tap) {
        const int shift = tap * reach.dilationX - reach.padLeft;
        const Range inside = insideRange(g.output.width, g.input.width, g.strideX, shift);
        for (int y = 0; y < g.input.height; ++y) {
            const Mark* from = rows + static_cast<std::size_t>(y) * g.output.width;
            Mark* to = read + static_cast<std::size_t>(y) * g.input.width;
            if (g.strideX == 1) {
                for (int x = inside.first; x < inside.last; ++x) {
                    to[x + shift] |= from[x];
                }
            } else {
                for (int x = inside.first; x < inside.last; ++x) {
                    to[x * g.strideX + shift] |= from[x];
                }
            }
        }
    }
}

}  // namespace

std::size_t listSupport(const ConvGeometry& g, const BranchGeometry& reach,
                        const std::int32_t* outputs, std::size_t count, std::int32_t* support,
                        Host& host) {
    const auto outputsPerImage = static_cast<std::size_t>(g.output.height) * g.output.width;
    const auto inputsPerImage = static_cast<std::size_t>(g.input.height) * g.input.width;
    const auto rowMarks = static_cast<std::size_t>(g.input.height) * g.output.width;
    HostArray<Mark> marks(host, outputsPerImage + rowMarks + inputsPerImage);
    Mark* const active = marks.data();
    Mark* const rows = active + outputsPerImage;
    Mark* const read = rows + rowMarks;

    std::size_t found = 0;
    const std::int32_t* const end = outputs + count;
    for (int image = 0; image < g.input.images; ++image) {
        std::memset(active, 0, outputsPerImage + rowMarks + inputsPerImage);
        const std::size_t firstOutput = image * outputsPerImage;
        const std::size_t endOutput = firstOutput + outputsPerImage;
        for (; outputs != end && static_cast<std::size_t>(*outputs) < endOutput; ++outputs) {
            active[static_cast<std::size_t>(*outputs) - firstOutput] = 1;
        }
        markRows(g, reach, active, rows);
        markColumns(g, reach, rows, read);
        const std::size_t firstInput = image * inputsPerImage;
        for (std::size_t i = 0; i < inputsPerImage; ++i) {
            support[found] = static_cast<std::int32_t>(firstInput + i);
            found += read[i];
        }
    }
    return found;
}

}  // namespace pagdeploy::cpu
