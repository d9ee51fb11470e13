// The PTX operations that the kernels use. Without nvcc the same names come from the emulator of
// tests/plugins/kernels, which runs the kernels on the CPU.
#pragma once

#include "common/element.hpp"
#include "common/tile.hpp"

#if !defined(__CUDACC__)
#include "emulator/ptx_emulation.hpp"
#else

#define PAG_DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]

namespace pagdeploy {

// Whether a gathered line should stay in L1: the taps of a convolution read it again, while
// weights are read once per tile.
enum class Reuse { kKeepInL1, kBypassL1 };

// An asynchronous copy of 16 bytes into shared memory; zeros if `valid` is false.
template <Reuse kReuse>
PAG_DEVICE void copyAsync(void* target, const void* source, bool valid) {
#if __CUDA_ARCH__ >= 800
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(target));
    const int bytes = valid ? 16 : 0;
    if constexpr (kReuse == Reuse::kKeepInL1) {
        asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(source),
                     "r"(bytes)
                     : "memory");
    } else {
        asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n" ::"r"(address),
                     "l"(source), "r"(bytes)
                     : "memory");
    }
#else
    uint4 value = make_uint4(0, 0, 0, 0);
    if (valid) {
        value = *static_cast<const uint4*>(source);
    }
    *static_cast<uint4*>(target) = value;
#endif
}

// Likewise of one word.
PAG_DEVICE void copyWordAsync(int* target, const int* source) {
#if __CUDA_ARCH__ >= 800
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(target));
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;\n" ::"r"(address), "l"(source)
                 : "memory");
#else
    *target = *source;
#endif
}

PAG_DEVICE void commitCopies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

// Waits until at most `kPending` groups of this thread's copies are still under way.
template <int kPending>
PAG_DEVICE void waitForCopies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
#endif
}

// Four 8x8 matrices of 16-bit elements; each lane gives the address of one 16-byte row.
PAG_DEVICE void loadMatrices(std::uint32_t (&registers)[4], const void* row) {
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(address)
                 : "memory");
}

// sum += left x right for 16 rows, 8 columns and 32 bytes of depth, by tensor cores. An
// architecture that lacks the type traps: the planner never sends it there.
template <typename Element>
PAG_DEVICE void multiplyAccumulate(float (&sum)[4], const std::uint32_t (&left)[4],
                                   std::uint32_t right0, std::uint32_t right1);

#define PAG_MMA(instruction)                                                                  \
    asm volatile(instruction " {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"          \
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])                     \
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0),       \
                   "r"(right1))

template <>
PAG_DEVICE void multiplyAccumulate<Half>(float (&sum)[4], const std::uint32_t (&left)[4],
                                         std::uint32_t right0, std::uint32_t right1) {
#if __CUDA_ARCH__ >= 800
    PAG_MMA("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
#else
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5},{%6},"
        "{%0,%1,%2,%3};\n"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(left[0]), "r"(left[1]), "r"(right0));
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5},{%6},"
        "{%0,%1,%2,%3};\n"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(left[2]), "r"(left[3]), "r"(right1));
#endif
}

template <>
PAG_DEVICE void multiplyAccumulate<BFloat16>(float (&sum)[4], const std::uint32_t (&left)[4],
                                             std::uint32_t right0, std::uint32_t right1) {
#if __CUDA_ARCH__ >= 800
    PAG_MMA("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32");
#else
    __trap();
#endif
}

PAG_DEVICE std::uint32_t tf32Bits(std::uint32_t bits) {
    std::uint32_t rounded = bits;
#if __CUDA_ARCH__ >= 800
    asm volatile("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(rounded) : "f"(__uint_as_float(bits)));
#endif
    return rounded;
}

template <>
PAG_DEVICE void multiplyAccumulate<float>(float (&sum)[4], const std::uint32_t (&fragment)[4],
                                          std::uint32_t column0, std::uint32_t column1) {
#if __CUDA_ARCH__ >= 800
    const std::uint32_t left[4] = {tf32Bits(fragment[0]), tf32Bits(fragment[1]),
                                   tf32Bits(fragment[2]), tf32Bits(fragment[3])};
    const std::uint32_t right0 = tf32Bits(column0);
    const std::uint32_t right1 = tf32Bits(column1);
    PAG_MMA("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32");
#else
    __trap();
#endif
}

#undef PAG_MMA

}  // namespace pagdeploy

#endif  // __CUDACC__
