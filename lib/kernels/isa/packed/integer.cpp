// Products of int8 and int4 panels, and the activations they take.
#include "kernels/isa/packed/integer.h"

#include "kernels/isa/packed/functions.h"

namespace hone::kernels::HONE_ISA {
namespace {

// Rows of x that meet unpacked tiles at once: as many accumulators as registers hold.
#if defined(__AVX512VNNI__)
constexpr int block = 3;
#else
constexpr int block = 2;
#endif

template <class Source, class Beside>
void add_block(int64_t rows, Source& source, const Segment& s, float* y, Beside beside) {
  if (rows == 1) add_segment<1>(source, s, y, beside);
  if (rows == 2) add_segment<2>(source, s, y, beside);
  if constexpr (block > 2)
    if (rows == 3) add_segment<3>(source, s, y, beside);
}

int64_t block_of(int64_t rows) {
  return rows == 4 ? 2 : rows < block ? rows : block;
}

template <class Source>
void add_blocks(Source& source, Segment s, int64_t count, float* y, uint8_t* scratch) {
  in_blocks(source, s.steps, count, scratch, block_of, [&](int64_t, int64_t rows, auto& from, auto beside) {
    add_block(rows, from, s, y, beside);
    y += rows * 64;
    s.x += rows * s.row_bytes;
    s.starts += rows * s.segments;
    s.x_scales += rows * s.segments;
  });
}

template <class Source>
void product(const PackedPanel& panel, const PackedInput& x, float* y, uint8_t* scratch) {
  for (int64_t i = 0; i < x.rows * 64; ++i) y[i] = 0;
  Source source(panel);
  Segment s{x.data, x.row_bytes, x.starts, x.scales, x.segments, panel.scales, 0};
  for (int64_t begin = 0; begin < panel.steps; begin += panel.segment_steps) {
    const int64_t left = panel.steps - begin;
    s.steps = left < panel.segment_steps ? left : panel.segment_steps;
#if defined(__AVX512VNNI__)
    if (x.rows <= block)
      add_block(x.rows, source, s, y, Nothing{});  // what is used at once streams in by itself
    else
#endif
      add_blocks(source, s, x.rows, y, scratch);
    s.x += s.steps * 8;
    s.starts += 1;
    s.x_scales += 1;
    s.scales += panel.scale_step;
  }
}

// round(x[0..16) * inverse), to nearest even. By the conversion instruction: adding a large constant instead would
// round differently where the compiler fuses the multiplication and the addition.
inline void round16(const float* x, float inverse, int32_t* out) {
#if defined(__AVX512F__)
  _mm512_storeu_si512(out, _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(inverse))));
#elif defined(__AVX2__)
  for (int i = 0; i < 16; i += 8) {
    const __m256i v = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(inverse)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), v);
  }
#elif defined(__SSE2__)
  for (int i = 0; i < 16; i += 4) {
    const __m128i v = _mm_cvtps_epi32(_mm_mul_ps(_mm_loadu_ps(x + i), _mm_set1_ps(inverse)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), v);
  }
#else
  for (int i = 0; i < 16; ++i) out[i] = static_cast<int32_t>(__builtin_lrintf(x[i] * inverse));
#endif
}

// 16 integers to the 4 steps of 8 bytes that add_segment() reads.
inline void store_planes(const int32_t* a, uint8_t* out) {
#if defined(__AVX512VNNI__)
  const __m512i v = _mm512_loadu_si512(a);
  const __m128i low = _mm512_cvtepi32_epi8(v);
  const __m128i high = _mm512_cvtepi32_epi8(_mm512_srai_epi32(_mm512_add_epi32(v, _mm512_set1_epi32(128)), 8));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_unpacklo_epi32(high, low));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16), _mm_unpackhi_epi32(high, low));
#else
  for (int i = 0; i < 16; i += 4) {
    const int16_t pairs[4] = {static_cast<int16_t>(a[i]), static_cast<int16_t>(a[i + 2]),
                              static_cast<int16_t>(a[i + 1]), static_cast<int16_t>(a[i + 3])};
    __builtin_memcpy(out + 2 * i, pairs, 8);
  }
#endif
}

}  // namespace

uint32_t packed_largest(const float* x, int64_t n) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, x + i, 4);
    bits &= 0x7fffffffu;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

int32_t packed_quantize(const float* x, int64_t n, float inverse, uint8_t* data) {
  int32_t lanes[16] = {};
  for (int64_t i = 0; i < n; i += 16) {
    int32_t a[16];
    round16(x + i, inverse, a);
    store_planes(a, data + 2 * i);
    for (int j = 0; j < 16; ++j) lanes[j] += a[j];
  }
  int32_t sum = 0;
  for (int j = 0; j < 16; ++j) sum += lanes[j];
  return sum;
}

void set_integer_products(PackedTable& table) {
  table.largest = packed_largest;
  table.quantize = packed_quantize;
  table.product[0][1] = product<Plain>;
  table.product[0][2] = product<Nibbles>;
  table.product[1][1] = product<SparseBytes>;
  table.product[1][2] = product<SparseNibbles>;
}

}  // namespace hone::kernels::HONE_ISA
