// How many products the innermost loop of each instruction set makes in a cycle; exits 1 if they
// are too few.
//
// A compiler that keeps the sums of a tile in memory instead of in registers is right and three
// times slower, which no test of numbers notices. The processor's frequency is measured here too,
// so that the limits hold on any machine. They lie between what such a compiler reaches and half
// of what a good one does, because another program may share the core.
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "perforated_conv/cpu/instruction_set.hpp"

namespace {

using pagdeploy::cpu::InstructionSet;
using pagdeploy::cpu::TileProduct;

constexpr int kTaps = 9;
constexpr int kDepth = 64;
constexpr int kCalls = 2000;
constexpr int kRepeats = 25;
constexpr double kMultiplyLatency = 3.0;  // cycles; of 64-bit integers, on every usual core

// Vector products in a cycle. Most processors can make two; some make one of AVX-512, and a
// portable build without fused products takes two operations for each.
double leastRate(const InstructionSet& isa) {
    switch (isa.panel / 2) {
        case 16:
            return 0.5;
        case 8:
            return 0.8;
        default:
            return 0.4;
    }
}

double threadSeconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

template <typename Work>
double bestSeconds(Work&& work) {
    double best = 1e9;
    for (int i = 0; i < kRepeats; ++i) {
        const double start = threadSeconds();
        work();
        best = std::min(best, threadSeconds() - start);
    }
    return best;
}

double cyclesPerSecond() {
    constexpr int kSteps = 1 << 20;
    volatile std::uint64_t odd = 0x5851F42D4C957F2DULL;
    volatile std::uint64_t sink = 0;
    const double seconds = bestSeconds([&] {
        const std::uint64_t factor = odd;
        std::uint64_t value = factor;
        for (int i = 0; i < kSteps; ++i) {
            value *= factor;
            asm volatile("" : "+r"(value));  // or the compiler multiplies powers
        }
        sink = value;
    });
    return kMultiplyLatency * kSteps / seconds;
}

double productsPerSecond(const InstructionSet& isa) {
    const auto panel = static_cast<std::size_t>(isa.panel);
    std::vector<float> rows(static_cast<std::size_t>(isa.rows) * kTaps * kDepth, 0.5f);
    std::vector<float> weights(kTaps * kDepth * panel + 16, 0.25f);
    std::vector<float> partial(static_cast<std::size_t>(isa.rows) * panel, 0.0f);
    std::vector<const float*> input;
    for (int i = 0; i < kTaps * isa.rows; ++i) {
        input.push_back(rows.data() + static_cast<std::size_t>(i) * kDepth);
    }
    TileProduct product{};
    product.rows = isa.rows;
    product.columns = isa.panel;
    product.taps = kTaps;
    product.depth = kDepth;
    product.input = input.data();
    product.weights = weights.data();
    product.tapStride = static_cast<std::ptrdiff_t>(kDepth) * isa.panel;
    product.bias = weights.data();
    product.partial = partial.data();
    const double seconds = bestSeconds([&] {
        for (int i = 0; i < kCalls; ++i) {
            isa.multiply(product);
        }
    });
    return 1.0 * kCalls * kTaps * kDepth * isa.rows * isa.panel / seconds;
}

}  // namespace

int main() {
    int status = 0;
    for (const InstructionSet* isa : pagdeploy::cpu::instructionSets()) {
        const double products = productsPerSecond(*isa);
        const double perCycle = products / (isa->panel / 2) / cyclesPerSecond();
        const bool isFast = perCycle >= leastRate(*isa);
        std::printf("%-9s %6.1f GFLOP/s, %4.2f vector products a cycle%s\n", isa->name,
                    2e-9 * products, perCycle, isFast ? "" : ": too slow");
        status = isFast ? status : 1;
    }
    return status;
}
