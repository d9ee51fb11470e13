// Compiled with -mavx512f -mavx512vnni: one instruction multiplies four bytes in every
// lane and adds them up in 32 bits. It is the one that does not saturate.
#include <immintrin.h>

#define PAG_LANES 16
#define PAG_TILE_ROWS 12
#include "perforated_conv/cpu/quantized_vectors.hpp"

namespace pagdeploy::cpu {
namespace {

using Rows = Ints;
using Columns = Ints;
// Without it GCC warns of a value that its own header leaves undefined.
constexpr __mmask16 kAll = 0xffff;

PAG_ALWAYS_INLINE Rows spread(std::uint32_t quad) { return Ints{} + quad; }
PAG_ALWAYS_INLINE Columns columnsAt(const std::int8_t* from) { return loadAs<Ints>(from); }
PAG_ALWAYS_INLINE Ints accumulate(Ints sum, Rows rows, Columns columns) {
    return reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum),
                                                      reinterpret_cast<__m512i>(rows),
                                                      reinterpret_cast<__m512i>(columns)));
}
PAG_ALWAYS_INLINE Ints widened(const std::uint8_t* from) {
    return reinterpret_cast<Ints>(_mm512_maskz_cvtepu8_epi32(kAll, loadAs<__m128i>(from)));
}
PAG_ALWAYS_INLINE void storeNarrow(std::uint8_t* to, Ints value) {
    const __m128i narrow =
        _mm512_maskz_cvtepi32_epi8(kAll, reinterpret_cast<__m512i>(value));
    __builtin_memcpy(to, &narrow, sizeof(narrow));
}

}  // namespace
}  // namespace pagdeploy::cpu

#include "perforated_conv/cpu/quantized_loops.hpp"

namespace pagdeploy::cpu {

const QuantizedSet kQuantizedVnni{"avx512-vnni", kTileRows, kPanel, multiply};

}  // namespace pagdeploy::cpu
