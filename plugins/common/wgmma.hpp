// Hopper's warpgroup product: asynchronous, both operands in shared memory (sm_90a).
#pragma once

#include "common/ptx.hpp"

#if !defined(__CUDACC__)
#include "emulator/wgmma_emulation.hpp"
#else

#include "common/wgmma_generated.hpp"

namespace pagdeploy {

// Describes an operand in shared memory: rows of 128 bytes along the depth, swizzled as
// swizzledOffset() does, groups of eight rows 1024 bytes apart. The tile begins at a multiple of
// 1024 bytes; a later chunk of its depth is reached by adding bytes to the address.
PAG_DEVICE std::uint64_t operandDescriptor(const void* operand) {
    const auto address = static_cast<std::uint64_t>(__cvta_generic_to_shared(operand));
    constexpr std::uint64_t kLeadingOffset = 1;          // of no meaning with this swizzle
    constexpr std::uint64_t kGroupOffset = 1024 >> 4;    // in units of 16 bytes
    constexpr std::uint64_t kSwizzle128Bytes = 1;
    return ((address & 0x3FFFF) >> 4) | (kLeadingOffset << 16) | (kGroupOffset << 32) |
           (kSwizzle128Bytes << 62);
}

template <typename Element, int kRegisters>
PAG_DEVICE void multiplyWarpgroup(float (&sums)[kRegisters], const unsigned char* left,
                                  const unsigned char* right, bool accumulate) {
    WarpgroupInstruction<Element>::run(sums, operandDescriptor(left), operandDescriptor(right),
                                       accumulate ? 1 : 0);
}

// The registers of the sums are ready to be read by the products that follow.
PAG_DEVICE void beginProducts() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }

PAG_DEVICE void commitProducts() {
    asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}

// Waits until at most `kPending` groups of this warpgroup's products are still under way.
template <int kPending>
PAG_DEVICE void waitForProducts() {
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory");
}

// Makes what this thread's copies have written visible to the products, which read shared memory
// through another path.
PAG_DEVICE void publishToProducts() {
    asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}

}  // namespace pagdeploy

#endif  // __CUDACC__
