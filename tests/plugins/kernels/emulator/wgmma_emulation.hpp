// common/wgmma.hpp for the emulator. Not covered: the bits of the descriptors, and whether
// publishToProducts() is where a GPU needs it.
#pragma once

#include "emulator/ptx_emulation.hpp"

namespace pagdeploy {

namespace warpgroup_emulation {

// The hardware's swizzle: bits 4 to 6 of the address are mixed with bits 7 to 9.
inline const unsigned char* place(const unsigned char* operand, int row, int byte) {
    std::size_t offset = std::size_t(operand - emulator::sharedMemory) +
                         std::size_t((row >> 3) * 1024 + (row & 7) * 128 + byte);
    offset ^= ((offset >> 7) & 7) << 4;
    emulator::requireShared(emulator::sharedMemory + offset, 2, "wgmma");
    return emulator::sharedMemory + offset;
}

template <typename Element, int kRows, int kDepth>
void read(float (&values)[kRows][kDepth], const unsigned char* operand) {
    for (int row = 0; row < kRows; ++row) {
        for (int k = 0; k < kDepth; ++k) {
            Element element;
            std::memcpy(&element, place(operand, row, k * int(sizeof(Element))), sizeof element);
            values[row][k] = factor(element);
        }
    }
}

inline emulator::WarpgroupQueue& queue() {
    return emulator::queues[std::size_t(emulator::current->thread / 128)];
}

}  // namespace warpgroup_emulation

template <typename Element, int kRegisters>
void multiplyWarpgroup(float (&sums)[kRegisters], const unsigned char* left,
                       const unsigned char* right, bool accumulate) {
    struct Argument {
        float* sums;
        const unsigned char* left;
        const unsigned char* right;
        bool accumulate;
    } argument{sums, left, right, accumulate};
    emulator::inWarpgroup(&argument, "wgmma", [](void** threads) {
        std::vector<Argument> given;
        for (int t = 0; t < 128; ++t) {
            given.push_back(*static_cast<Argument*>(threads[t]));
        }
        auto run = [given] {
            constexpr int kColumns = kRegisters * 2;
            constexpr int kDepth = 32 / int(sizeof(Element));
            float a[64][kDepth];
            float b[kColumns][kDepth];
            warpgroup_emulation::read<Element>(a, given[0].left);
            warpgroup_emulation::read<Element>(b, given[0].right);
            for (int t = 0; t < 128; ++t) {
                for (int i = 0; i < kRegisters; ++i) {
                    const int row = (t / 32) * 16 + ((t & 31) >> 2) + 8 * ((i >> 1) & 1);
                    const int column = (i >> 2) * 8 + (t & 3) * 2 + (i & 1);
                    float sum = given[std::size_t(t)].accumulate
                                    ? given[std::size_t(t)].sums[i]
                                    : 0.0f;
                    for (int k = 0; k < kDepth; ++k) {
                        sum += a[row][k] * b[column][k];
                    }
                    given[std::size_t(t)].sums[i] = sum;
                }
            }
            ++emulator::statistics.products;
        };
        if (emulator::options.landLate) {
            warpgroup_emulation::queue().open.push_back(run);
        } else {
            run();
        }
    });
}

inline void beginProducts() {}
inline void publishToProducts() {}

inline void commitProducts() {
    emulator::inWarpgroup(nullptr, "wgmma.commit_group", [](void**) {
        auto& queue = warpgroup_emulation::queue();
        queue.groups.push_back(std::move(queue.open));
        queue.open.clear();
    });
}

template <int kPending>
void waitForProducts() {
    emulator::inWarpgroup(nullptr, "wgmma.wait_group", [](void**) {
        auto& groups = warpgroup_emulation::queue().groups;
        while (int(groups.size()) > kPending) {
            for (const auto& product : groups.front()) {
                product();
            }
            groups.erase(groups.begin());
        }
    });
}

}  // namespace pagdeploy
