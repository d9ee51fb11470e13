// common/ptx.hpp and the CUDA built-ins that the kernels use, for the emulator.
#pragma once

#include <type_traits>

#include "common/element.hpp"
#include "common/tile.hpp"
#include "emulator/simt_emulator.hpp"

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)
#define __grid_constant__
#define threadIdx \
    (pagdeploy::emulator::Index3{unsigned(pagdeploy::emulator::current->thread), 0, 0})
#define blockIdx (pagdeploy::emulator::blockIndex)
#define blockDim (pagdeploy::emulator::blockSize)
#define gridDim (pagdeploy::emulator::gridSize)

#define PAG_DYNAMIC_SHARED(name) unsigned char* const name = pagdeploy::emulator::sharedMemory

namespace pagdeploy {

inline void __syncthreads() {
    emulator::together(emulator::block, emulator::current->thread, nullptr, "__syncthreads",
                       [](void**) {});
}

inline unsigned __ballot_sync(unsigned, int predicate) {
    struct Argument {
        int predicate;
        unsigned result;
    } argument{predicate, 0};
    emulator::inWarp(&argument, "ballot", [](void** lanes) {
        unsigned result = 0;
        for (int i = 0; i < 32; ++i) {
            if (lanes[i] != nullptr && static_cast<Argument*>(lanes[i])->predicate != 0) {
                result |= 1u << i;
            }
        }
        for (int i = 0; i < 32; ++i) {
            if (lanes[i] != nullptr) {
                static_cast<Argument*>(lanes[i])->result = result;
            }
        }
    });
    return argument.result;
}

inline int __shfl_up_sync(unsigned, int value, int distance) {
    struct Argument {
        int value;
        int source;
        int result;
    } argument{value, emulator::current->lane - distance, value};
    emulator::inWarp(&argument, "shfl.up", [](void** lanes) {
        for (int i = 0; i < 32; ++i) {
            auto* lane = static_cast<Argument*>(lanes[i]);
            if (lane != nullptr && lane->source >= 0 && lanes[lane->source] != nullptr) {
                lane->result = static_cast<Argument*>(lanes[lane->source])->value;
            }
        }
    });
    return argument.result;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(unsigned bits) { return __builtin_ffs(int(bits)); }

// Fibers switch only where they wait, so a plain update is atomic.
template <typename Integer>
Integer atomicAdd(Integer* target, Integer value) {
    const Integer before = *target;
    *target = before + value;
    return before;
}
inline unsigned atomicOr(unsigned* target, unsigned bits) {
    const unsigned before = *target;
    *target |= bits;
    return before;
}

enum class Reuse { kKeepInL1, kBypassL1 };

template <Reuse>
inline void copyAsync(void* target, const void* source, bool valid) {
    emulator::copyAsync(target, source, valid ? 16 : 0);
}

inline void copyWordAsync(int* target, const int* source) {
    emulator::copyAsync(target, source, 4, 4);
}

inline void commitCopies() { emulator::commitCopies(); }

template <int kPending>
inline void waitForCopies() {
    emulator::waitForCopies(kPending);
}

inline void loadMatrices(std::uint32_t (&registers)[4], const void* row) {
    struct Argument {
        std::uint32_t* registers;
        const unsigned char* row;
    } argument{registers, static_cast<const unsigned char*>(row)};
    emulator::inWarp(&argument, "ldmatrix", [](void** lanes) {
        for (int matrix = 0; matrix < 4; ++matrix) {
            int rowsInBank[8] = {};
            for (int i = 0; i < 8; ++i) {
                const auto* source = static_cast<Argument*>(lanes[matrix * 8 + i])->row;
                emulator::requireAligned(source, 16, "ldmatrix");
                emulator::requireShared(source, 16, "ldmatrix");
                ++rowsInBank[((source - emulator::sharedMemory) >> 4) & 7];
                for (int t = 0; t < 4; ++t) {
                    auto* lane = static_cast<Argument*>(lanes[i * 4 + t]);
                    std::memcpy(&lane->registers[matrix], source + 4 * t, 4);
                }
            }
            ++emulator::statistics.matrixPhases;
            emulator::statistics.bankConflicts +=
                std::uint64_t(*std::max_element(rowsInBank, rowsInBank + 8) - 1);
        }
    });
}

// What a tensor core multiplies: a float is read as TF32.
template <typename Element>
float factor(Element value) {
    if constexpr (std::is_same_v<Element, float>) {
        return roundToTf32(value);
    } else {
        return toFloat(value);
    }
}

template <typename Element>
float factorInRegister(std::uint32_t word, int index) {
    Element value;
    std::memcpy(&value, reinterpret_cast<const char*>(&word) + index * int(sizeof(Element)),
                sizeof(Element));
    return factor(value);
}

template <typename Element>
void multiplyAccumulate(float (&sum)[4], const std::uint32_t (&left)[4], std::uint32_t right0,
                        std::uint32_t right1) {
    struct Argument {
        float* sum;
        const std::uint32_t* left;
        std::uint32_t right[2];
    } argument{sum, left, {right0, right1}};
    emulator::inWarp(&argument, "mma", [](void** lanes) {
        constexpr int kPerRegister = 4 / int(sizeof(Element));
        constexpr int kHalfDepth = 4 * kPerRegister;
        float a[16][2 * kHalfDepth];
        float b[8][2 * kHalfDepth];
        for (int lane = 0; lane < 32; ++lane) {
            const auto* given = static_cast<Argument*>(lanes[lane]);
            const int group = lane >> 2;
            const int place = (lane & 3) * kPerRegister;
            for (int i = 0; i < kPerRegister; ++i) {
                for (int r = 0; r < 4; ++r) {
                    a[group + 8 * (r & 1)][(r >> 1) * kHalfDepth + place + i] =
                        factorInRegister<Element>(given->left[r], i);
                }
                for (int r = 0; r < 2; ++r) {
                    b[group][r * kHalfDepth + place + i] =
                        factorInRegister<Element>(given->right[r], i);
                }
            }
        }
        for (int lane = 0; lane < 32; ++lane) {
            const auto* given = static_cast<Argument*>(lanes[lane]);
            for (int q = 0; q < 4; ++q) {
                const int row = (lane >> 2) + 8 * (q >> 1);
                const int column = (lane & 3) * 2 + (q & 1);
                float total = given->sum[q];
                for (int k = 0; k < 2 * kHalfDepth; ++k) {
                    total += a[row][k] * b[column][k];
                }
                given->sum[q] = total;
            }
        }
        ++emulator::statistics.products;
    });
}

}  // namespace pagdeploy
