// A nibble a number, value (code - 7.5) * scale; of each 32 numbers byte b has number b in its low and number b + 16 in
// its high half.
#include "kernels/isa/attention/set_code.h"

namespace hone::kernels::HONE_ISA {
namespace {

struct Int4Code : CodeByte {
  static constexpr float most = 7.5f;

  static Vec load(const Int4Code* row, int64_t d) {
    const auto place = static_cast<uint64_t>(d);
    const Int4Code* at = row + place / 32 * 16 + place % 16;
    const int shift = static_cast<int>(place & 16) / 4;
#if defined(HONE_VECTOR_AVX512)
    alignas(64) static constexpr float values[16] = {-7.5f, -6.5f, -5.5f, -4.5f, -3.5f, -2.5f, -1.5f, -0.5f,
                                                     0.5f,  1.5f,  2.5f,  3.5f,  4.5f,  5.5f,  6.5f,  7.5f};
    const __m512i pairs = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    const __m512i codes = _mm512_srlv_epi32(pairs, _mm512_set1_epi32(shift));
    return _mm512_maskz_permutexvar_ps(0xffff, codes, _mm512_load_ps(values));  // by the lowest 4 bits
#elif defined(HONE_VECTOR_AVX2)
    const __m256i pairs = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
    const __m256i codes = shift ? _mm256_srli_epi32(pairs, 4) : _mm256_and_si256(pairs, _mm256_set1_epi32(15));
    return _mm256_cvtepi32_ps(codes) - 7.5f;
#elif defined(HONE_NEON)
    uint32_t pairs;
    __builtin_memcpy(&pairs, at, 4);
    const uint8x8_t codes = vcreate_u8(pairs >> shift & 0x0f0f0f0fu);
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(codes)))) - 7.5f;
#else
    Vec v;
    for (int i = 0; i < lanes; ++i) v[i] = static_cast<float>(at[i].byte >> shift & 15) - 7.5f;
    return v;
#endif
  }

  static void encode(const float* row, int64_t n, float inverse, Int4Code* out) {
    const auto code = [&](int64_t i) {
      const float x = (i < n ? row[i] * inverse : 0) + 8, clamped = x < 0 ? 0 : x > 15 ? 15 : x;
      return static_cast<int>(clamped);
    };
    for (int64_t d = 0; d < n; d += 32, out += 16)
      for (int64_t i = 0; i < 16; ++i) out[i].byte = static_cast<uint8_t>(code(d + i) | code(d + i + 16) << 4);
  }
};

}  // namespace

template <>
CodeFunctions code_functions<cache_code_named("int4")>() {
  return functions_of_code<cache_code_named("int4"), Int4Code>();
}

}  // namespace hone::kernels::HONE_ISA
