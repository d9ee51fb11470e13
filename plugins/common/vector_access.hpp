// Reading and writing several elements of a row with as few 16-byte accesses as possible.
#pragma once

#include "common/element.hpp"
#include "common/ptx.hpp"

namespace pagdeploy {

struct alignas(16) Chunk {
    std::uint32_t words[4];
};

#if defined(__CUDACC__)
template <typename Vector>
PAG_DEVICE Vector loadVector(const void* source) {
    return *static_cast<const Vector*>(source);
}
template <typename Vector>
PAG_DEVICE void storeVector(void* target, const Vector& value) {
    *static_cast<Vector*>(target) = value;
}
#else
template <typename Vector>
inline Vector loadVector(const void* source) {
    emulator::requireAligned(source, alignof(Vector), "vector load");
    Vector value;
    std::memcpy(&value, source, sizeof value);
    return value;
}
template <typename Vector>
inline void storeVector(void* target, const Vector& value) {
    emulator::requireAligned(target, alignof(Vector), "vector store");
    std::memcpy(target, &value, sizeof value);
}
#endif

// The epilogue works on eight channels at a time: 16 bytes of a two-byte type.
constexpr int kChannelsPerVector = 8;

template <typename Element>
PAG_DEVICE void loadChannels(Element (&values)[kChannelsPerVector], const Element* source) {
    constexpr int kChunks = int(sizeof(values)) / kChunkBytes;
    PAG_UNROLL
    for (int i = 0; i < kChunks; ++i) {
        const Chunk chunk = loadVector<Chunk>(reinterpret_cast<const char*>(source) + 16 * i);
        memcpy(reinterpret_cast<char*>(values) + 16 * i, &chunk, sizeof chunk);
    }
}

template <typename Element>
PAG_DEVICE void storeChannels(Element* target, const Element (&values)[kChannelsPerVector]) {
    constexpr int kChunks = int(sizeof(values)) / kChunkBytes;
    PAG_UNROLL
    for (int i = 0; i < kChunks; ++i) {
        Chunk chunk;
        memcpy(&chunk, reinterpret_cast<const char*>(values) + 16 * i, sizeof chunk);
        storeVector(reinterpret_cast<char*>(target) + 16 * i, chunk);
    }
}

}  // namespace pagdeploy
