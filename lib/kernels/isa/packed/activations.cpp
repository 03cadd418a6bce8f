// Rows on their way into and out of the products: bf16 to f32 and back, and in the forms that products take.
#include "kernels/isa/packed/functions.h"
#include "kernels/isa/packed/rounding.h"
#include "kernels/isa/scalar_math.h"

namespace hone::kernels::HONE_ISA {
namespace {

// 16 integers to the 4 steps of `Planes` times 4 bytes that add_segment() reads.
template <int Planes>
inline void store_planes(const int32_t* a, uint8_t* out) {
#if defined(__AVX512VNNI__)
  const __m512i v = _mm512_loadu_si512(a);
  if constexpr (Planes == 1) return _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(v));
  const __m128i low = _mm512_cvtepi32_epi8(v);
  const __m128i high = _mm512_cvtepi32_epi8(_mm512_srai_epi32(_mm512_add_epi32(v, _mm512_set1_epi32(128)), 8));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_unpacklo_epi32(high, low));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16), _mm_unpackhi_epi32(high, low));
#elif defined(HONE_NEON_DOT)
  const int16x8_t first = vcombine_s16(vmovn_s32(vld1q_s32(a)), vmovn_s32(vld1q_s32(a + 4)));
  const int16x8_t second = vcombine_s16(vmovn_s32(vld1q_s32(a + 8)), vmovn_s32(vld1q_s32(a + 12)));
  const int8x16_t low = vcombine_s8(vmovn_s16(first), vmovn_s16(second));
  if constexpr (Planes == 1) return vst1q_u8(out, vreinterpretq_u8_s8(low));
  const int8x16_t high = vcombine_s8(vrshrn_n_s16(first, 8), vrshrn_n_s16(second, 8));
  const uint32x4x2_t both = vzipq_u32(vreinterpretq_u32_s8(high), vreinterpretq_u32_s8(low));
  vst1q_u8(out, vreinterpretq_u8_u32(both.val[0]));
  vst1q_u8(out + 16, vreinterpretq_u8_u32(both.val[1]));
#else
  for (int i = 0; i < 16; i += 4) {
    const int16_t pairs[4] = {static_cast<int16_t>(a[i]), static_cast<int16_t>(a[i + 2]),
                              static_cast<int16_t>(a[i + 1]), static_cast<int16_t>(a[i + 3])};
    __builtin_memcpy(out + 2 * i, pairs, 8);
  }
#endif
}

void round_row(const float* x, int64_t n, uint8_t* data) {
#if defined(__AVX512BF16__)
  for (int64_t i = 0; i < n; i += 16) {
    const __m256bh v = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(data + 2 * i), reinterpret_cast<__m256i>(v));
  }
#elif defined(HONE_NEON_BF16)
  for (int64_t i = 0; i < n; i += 4)
    vst1_u16(reinterpret_cast<uint16_t*>(data + 2 * i), vreinterpret_u16_bf16(vcvt_bf16_f32(vld1q_f32(x + i))));
#else
  __builtin_memcpy(data, x, static_cast<size_t>(n) * sizeof(float));
#endif
}

void widen_row(const bf16* x, int64_t n, float* out) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = widen(x[i]);
}

// To nearest, ties to even; a NaN stays one.
void narrow_row(const float* x, int64_t n, bf16* out) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) narrow(x[i], out[i]);
}

#if defined(__AVX512VNNI__) || defined(HONE_NEON_DOT)
constexpr int64_t plane_bytes[] = {0, 4, 8};  // of a step, for 1 and 2 planes
#else
constexpr int64_t plane_bytes[] = {0, 8, 8};  // 16 bits a column whatever they hold
#endif

// Stores 16 integers after the other and adds them up.
template <int Planes>
struct Storing {
  uint8_t* data;
  int32_t lanes[16] = {};

  void add(const int32_t* a) {
    store_planes<Planes>(a, data);
    data += plane_bytes[Planes] * 4;
    for (int j = 0; j < 16; ++j) lanes[j] += a[j];
  }
  int32_t sum() const {
    int32_t total = 0;
    for (int j = 0; j < 16; ++j) total += lanes[j];
    return total;
  }
};

template <int Planes>
int32_t packed_quantize(const float* x, int64_t n, float inverse, uint8_t* data) {
  Storing<Planes> to{data};
  for (int64_t i = 0; i < n; i += 16) {
    int32_t a[16];
    round16(x + i, inverse, a);
    to.add(a);
  }
  return to.sum();
}

// A hash has draws for two elements: columns c and c + 16 of 32.
int32_t packed_quantize_by_chance(const float* x, int64_t n, float inverse, const RowDraws& draws, uint8_t* data) {
  Storing<1> to{data};
  const scalar::RowKey key = scalar::row_key(draws.seed, draws.row);
  for (int64_t i = 0; i < n; i += 32) {
    uint32_t hashes[16];
    const auto first = static_cast<uint32_t>((draws.column + i) / 2);
#pragma omp simd
    for (uint32_t j = 0; j < 16; ++j) hashes[j] = scalar::hash(key, first + j);
    int32_t a[16];
    round16_by_chance(x + i, inverse, hashes, 0, a);
    to.add(a);
    if (i + 16 >= n) break;
    round16_by_chance(x + i + 16, inverse, hashes, 16, a);
    to.add(a);
  }
  return to.sum();
}

}  // namespace

void set_activations(PackedTable& table) {
  table.widen = widen_row;
  table.narrow = narrow_row;
  table.largest = largest_bits;
  table.quantize = packed_quantize<2>;
  table.quantize_8 = packed_quantize<1>;
  table.quantize_8_by_chance = packed_quantize_by_chance;
  table.step_16 = plane_bytes[2];
  table.step_8 = plane_bytes[1];
#if defined(__AVX512VNNI__) || defined(HONE_NEON_DOT)
  table.fast_integers = true;  // as many products a cycle as of bf16, each of twice the columns
#elif defined(__AVX2__)
  table.fast_integers = true;                 // twice as many products a cycle as of f32
#endif
#if defined(__AVX512VBMI2__)
  table.fast_f32 = true;  // tiles of 6 rows by 64 outputs
#elif defined(__AVX2__)
  table.fast_f32 = true;                      // tiles of 5 rows by 16 outputs
#endif
  table.round = round_row;
}

}  // namespace hone::kernels::HONE_ISA
