// A byte a number, value q * scale, q from -127 to 127.
#include "kernels/isa/attention/set_code.h"

namespace hone::kernels::HONE_ISA {
namespace {

struct Int8Code : CodeByte {
  static constexpr float most = 127;

  static Vec load(const Int8Code* row, int64_t d) {
#if defined(HONE_VECTOR_AVX512)
    const __m128i q = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + d));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
#elif defined(HONE_VECTOR_AVX2)
    const __m128i q = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + d));
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q));
#elif defined(HONE_NEON)
    uint32_t four;
    __builtin_memcpy(&four, row + d, 4);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four)))));
#else
    Vec v;
    for (int i = 0; i < lanes; ++i) v[i] = static_cast<int8_t>(row[d + i].byte);
    return v;
#endif
  }

  static void encode(const float* row, int64_t n, float inverse, Int8Code* out) {
    for (int64_t i = 0; i < n; ++i) {
      const float x = row[i] * inverse, clamped = x < -127 ? -127 : x > 127 ? 127 : x;
      const auto q = static_cast<int8_t>((clamped + 12582912.0f) - 12582912.0f);  // to nearest: no bits for a fraction
      out[i].byte = static_cast<uint8_t>(q);
    }
    for (int64_t i = n; i < (n + 15) / 16 * 16; ++i) out[i].byte = 0;
  }
};

}  // namespace

template <>
CodeFunctions code_functions<cache_code_named("int8")>() {
  return functions_of_code<cache_code_named("int8"), Int8Code>();
}

}  // namespace hone::kernels::HONE_ISA
