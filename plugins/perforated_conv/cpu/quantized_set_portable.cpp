// For every processor: bytes are widened to the 32 bits of their lane.
#define PAG_LANES 4
#define PAG_TILE_ROWS 2
#include "perforated_conv/cpu/quantized_vectors.hpp"

namespace pagdeploy::cpu {
namespace {

struct Quad {
    Ints byte[kQuad];
};
using Rows = Quad;
using Columns = Quad;

// Which of the four is called the first does not matter, so neither does the order of the bytes.
PAG_ALWAYS_INLINE Rows spread(std::uint32_t quad) {
    const Ints all = Ints{} + quad;
    return {{all & 0xff, (all >> 8) & 0xff, (all >> 16) & 0xff, all >> 24}};
}
PAG_ALWAYS_INLINE Ints extended(Ints value, int left) {
    return reinterpret_cast<Ints>(reinterpret_cast<SignedInts>(value << left) >> 24);
}
PAG_ALWAYS_INLINE Columns columnsAt(const std::int8_t* from) {
    const Ints all = loadAs<Ints>(from);
    return {{extended(all, 24), extended(all, 16), extended(all, 8), extended(all, 0)}};
}
PAG_ALWAYS_INLINE Ints accumulate(Ints sum, const Rows& rows, const Columns& columns) {
    return sum + rows.byte[0] * columns.byte[0] + rows.byte[1] * columns.byte[1] +
           rows.byte[2] * columns.byte[2] + rows.byte[3] * columns.byte[3];
}
PAG_ALWAYS_INLINE Ints widened(const std::uint8_t* from) {
    Ints value{};
    for (int lane = 0; lane < kLanes; ++lane) {
        value[lane] = from[lane];
    }
    return value;
}
PAG_ALWAYS_INLINE void storeNarrow(std::uint8_t* to, Ints value) {
    for (int lane = 0; lane < kLanes; ++lane) {
        to[lane] = static_cast<std::uint8_t>(value[lane]);
    }
}

}  // namespace
}  // namespace pagdeploy::cpu

#include "perforated_conv/cpu/quantized_loops.hpp"

namespace pagdeploy::cpu {

const QuantizedSet kQuantizedPortable{"portable", kTileRows, kPanel, multiply};

}  // namespace pagdeploy::cpu
