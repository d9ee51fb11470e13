// Compiled with -mavx2. The instruction that multiplies bytes saturates in 16 bits, so even and odd
// bytes are widened to 16 bits first, and those products are added in 32.
#include <immintrin.h>

#define PAG_LANES 8
#define PAG_TILE_ROWS 4
#include "perforated_conv/cpu/quantized_vectors.hpp"

namespace pagdeploy::cpu {
namespace {

struct Halves {
    __m256i even;
    __m256i odd;
};
using Rows = Halves;
using Columns = Halves;

PAG_ALWAYS_INLINE Rows spread(std::uint32_t quad) {
    const __m256i all = _mm256_set1_epi32(static_cast<int>(quad));
    return {_mm256_and_si256(all, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(all, 8)};
}
PAG_ALWAYS_INLINE Columns columnsAt(const std::int8_t* from) {
    const __m256i all = loadAs<__m256i>(from);
    return {_mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8), _mm256_srai_epi16(all, 8)};
}
PAG_ALWAYS_INLINE Ints accumulate(Ints sum, Rows rows, Columns columns) {
    const __m256i both = _mm256_add_epi32(_mm256_madd_epi16(rows.even, columns.even),
                                          _mm256_madd_epi16(rows.odd, columns.odd));
    return sum + reinterpret_cast<Ints>(both);
}
PAG_ALWAYS_INLINE Ints widened(const std::uint8_t* from) {
    return reinterpret_cast<Ints>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(
        reinterpret_cast<const __m128i*>(from))));
}
PAG_ALWAYS_INLINE void storeNarrow(std::uint8_t* to, Ints value) {
    const auto all = reinterpret_cast<__m256i>(value);
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
}

}  // namespace
}  // namespace pagdeploy::cpu

#include "perforated_conv/cpu/quantized_loops.hpp"

namespace pagdeploy::cpu {

const QuantizedSet kQuantizedAvx2{"avx2", kTileRows, kPanel, multiply};

}  // namespace pagdeploy::cpu
