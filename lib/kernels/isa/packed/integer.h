// Products of integers with an offset and activations of 16 or 8 bits. Sums of one segment, 64 rows times M rows of x,
// are exact in 32 bits and added to f32 results.
#pragma once

#include "kernels/isa/float_bits.h"
#include "kernels/isa/packed/source.h"

namespace hone::kernels::HONE_ISA::integers {

// What a segment's sums need beside the tiles.
struct Segment {
  const uint8_t* x;       // activations of the segment's first step, row 0: 4 or 8 bytes a step
  int64_t row_bytes;      // to the next row of x
  const int32_t* starts;  // [rows]: of the sums, minus what the offset of the weights adds
  const float* x_scales;  // [rows]
  const bf16* scales;     // [64]
  int64_t steps;
};

#if defined(__AVX512VNNI__)

// Activations of a step: hi[4] lo[4], or of 8 bits [4] alone; weights are the unsigned operand. An array for each plane:
// GCC 12 leaves one of both in memory.
template <int M, int Planes, class Source, class Beside>
inline __attribute__((always_inline)) void add_segment(Source& source, Segment s, float* y, Beside beside) {
  __m512i hi[M][4], lo[M][4];
  Source stream = source;  // a copy of our own stays in registers
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      if constexpr (Planes == 2) hi[m][i] = _mm512_setzero_si512();
      lo[m][i] = _mm512_set1_epi32(s.starts[m]);
    }
  const uint8_t* x = s.x;
  for (int64_t n = 0; n < s.steps; ++n, x += 4 * Planes) {
    __m512i w[4];
    stream.step(w);
    beside();
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      if constexpr (Planes == 2) {
        const __m512i high = broadcast(x + m * s.row_bytes);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) dot(hi[m][i], w[i], high);
      }
      const __m512i low = broadcast(x + m * s.row_bytes + 4 * (Planes - 1));
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) dot(lo[m][i], w[i], low);
    }
  }
  source = stream;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(s.scales + 16 * i));
    const __m512 scale = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      __m512i total = lo[m][i];
      if constexpr (Planes == 2) total = _mm512_add_epi32(_mm512_slli_epi32(hi[m][i], 8), total);
      const __m512 worth = _mm512_mul_ps(scale, _mm512_set1_ps(s.x_scales[m]));
      float* to = y + m * 64 + i * 16;
      _mm512_storeu_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), worth, _mm512_loadu_ps(to)));
    }
  }
}

#elif defined(__AVX2__)

// Activations of a step: a[0] a[2] a[1] a[3], 16 bits each. Even and odd bytes of a weight lane meet the two pairs.
template <int M, int Planes, class Source, class Beside>
inline void add_segment(Source& source, const Segment& s, float* y, Beside) {
  const uint8_t* tiles = source.p;
  source.p += s.steps * step_bytes;
  const __m256i even = _mm256_set1_epi32(0x00ff00ff);
  for (int i = 0; i < 8; i += 2) {  // 16 rows at a time
    __m256i sum[M][2];
    for (int m = 0; m < M; ++m) sum[m][0] = sum[m][1] = _mm256_set1_epi32(s.starts[m]);
    const uint8_t* x = s.x;
    for (int64_t n = 0; n < s.steps; ++n, x += 8)
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        const auto* at = reinterpret_cast<const __m256i*>(tiles + n * step_bytes + (i + h) * 32);
        const __m256i w = _mm256_loadu_si256(at);
        const __m256i w02 = _mm256_and_si256(w, even), w13 = _mm256_and_si256(_mm256_srli_epi16(w, 8), even);
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
          int32_t a[2];
          __builtin_memcpy(a, x + m * s.row_bytes, 8);
          const __m256i p = _mm256_madd_epi16(w02, _mm256_set1_epi32(a[0]));
          const __m256i q = _mm256_madd_epi16(w13, _mm256_set1_epi32(a[1]));
          sum[m][h] = _mm256_add_epi32(sum[m][h], _mm256_add_epi32(p, q));
        }
      }
    for (int h = 0; h < 2; ++h) {
      const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(s.scales + 8 * (i + h)));
      const __m256 scale = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
      for (int m = 0; m < M; ++m) {
        const __m256 worth = _mm256_mul_ps(scale, _mm256_set1_ps(s.x_scales[m]));
        float* to = y + m * 64 + (i + h) * 8;
        _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[m][h]), worth, _mm256_loadu_ps(to)));
      }
    }
  }
}

#else

// The plain form, which is the reference of the others: the same order of activations as with AVX2.
template <int M, int Planes, class Source, class Beside>
inline void add_segment(Source& source, const Segment& s, float* y, Beside) {
  const uint8_t* tiles = source.p;
  source.p += s.steps * step_bytes;
  for (int m = 0; m < M; ++m) {
    int32_t sum[64];
    for (int r = 0; r < 64; ++r) sum[r] = s.starts[m];
    for (int64_t n = 0; n < s.steps; ++n) {
      int16_t a[4];
      __builtin_memcpy(a, s.x + m * s.row_bytes + n * 8, 8);
      const uint8_t* w = tiles + n * step_bytes;
      for (int r = 0; r < 64; ++r)
        sum[r] += w[4 * r] * a[0] + w[4 * r + 1] * a[2] + w[4 * r + 2] * a[1] + w[4 * r + 3] * a[3];
    }
    for (int r = 0; r < 64; ++r) y[m * 64 + r] += static_cast<float>(sum[r]) * (as_float(s.scales[r]) * s.x_scales[m]);
  }
}

#endif

// Rows of x that meet unpacked tiles at once: as many accumulators as registers hold.
#if defined(__AVX512VNNI__)
template <int Planes>
constexpr int block = 6 / Planes;
#else
template <int Planes>
constexpr int block = 2;
#endif

template <int Planes, class Source, class Beside>
inline __attribute__((always_inline)) void add_block(int64_t rows, Source& source, const Segment& s, float* y,
                                                     Beside beside) {
  if (rows == 1) add_segment<1, Planes>(source, s, y, beside);
  if (rows == 2) add_segment<2, Planes>(source, s, y, beside);
  if constexpr (block<Planes> >= 3)
    if (rows == 3) add_segment<3, Planes>(source, s, y, beside);
  if constexpr (block<Planes> >= 6) {
    if (rows == 4) add_segment<4, Planes>(source, s, y, beside);
    if (rows == 5) add_segment<5, Planes>(source, s, y, beside);
    if (rows == 6) add_segment<6, Planes>(source, s, y, beside);
  }
}

// What is left of two blocks is halved: a block of one row waits for its own sums.
template <int Planes>
inline int64_t block_of(int64_t rows) {
  constexpr int most = block<Planes>;
  return rows <= most ? rows : rows < 2 * most ? (rows + 1) / 2 : most;
}

// Inlined, so that what the source knows lies in registers.
template <int Planes, class Source>
inline __attribute__((always_inline)) void add_blocks(Source& source, Segment s, int64_t count, float* y,
                                                      uint8_t* scratch) {
  in_blocks(source, s.steps, count, scratch, block_of<Planes>, [&](int64_t, int64_t rows, auto& from, auto beside) {
    add_block<Planes>(rows, from, s, y, beside);
    y += rows * 64;
    s.x += rows * s.row_bytes;
    s.starts += rows;
    s.x_scales += rows;
  });
}

template <int Planes, class Source>
void product(const PackedPanel& panel, const PackedInput& x, float* y, uint8_t* scratch) {
  for (int64_t i = 0; i < x.rows * 64; ++i) y[i] = 0;
  Source source(panel);
  Segment s{x.data, x.row_bytes, x.starts, x.scales, panel.scales, 0};
  for (int64_t begin = 0; begin < panel.steps; begin += panel.segment_steps) {
    const int64_t left = panel.steps - begin;
    s.steps = left < panel.segment_steps ? left : panel.segment_steps;
#if defined(__AVX512VNNI__)
    if (x.rows <= block<Planes>)
      add_block<Planes>(x.rows, source, s, y, Nothing{});  // what is used at once streams in by itself
    else
#endif
      add_blocks<Planes>(source, s, x.rows, y, scratch);
    s.x += x.segment_bytes;
    s.starts += x.rows;
    s.x_scales += x.rows;
    s.scales += panel.scale_step;
  }
}

// Of activations of 8 bits, which without their instruction have 16 as well.
template <class Source>
constexpr FormFunctions::Product product_8() {
#if defined(__AVX512VNNI__)
  return product<1, Source>;
#else
  return product<2, Source>;
#endif
}

}  // namespace hone::kernels::HONE_ISA::integers
