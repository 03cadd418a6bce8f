// Products of integers with an offset, Zero, and activations of 16 or 8 bits. Sums of one segment, 64 rows times M rows
// of x, are exact in 32 bits and added to f32 results.
#pragma once

#include "kernels/isa/float_bits.h"
#include "kernels/isa/packed/segment.h"
#include "kernels/isa/packed/source.h"

#if defined(__AVX2__) && !defined(__AVX512VNNI__)
#include "kernels/isa/packed/integer_avx2.h"
#else

namespace hone::kernels::HONE_ISA::integers {

#if defined(__AVX512VNNI__)

// Activations of a step: hi[4] lo[4], or of 8 bits [4] alone; weights are the unsigned operand. An array for each
// plane: GCC 12 leaves one of both in memory.
template <int M, int Planes, int Zero, class Source, class Beside>
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

#elif defined(HONE_NEON)

// What sums of 16 rows end as: added to 16 of the results of one row of x.
inline void add_results(const int32x4_t* sums, const bf16* scales, float x_scale, float* y) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const uint16x4_t bits = vld1_u16(&scales[4 * i].bits);
    const float32x4_t worth = vmulq_n_f32(vreinterpretq_f32_u32(vshll_n_u16(bits, 16)), x_scale);
    vst1q_f32(y + 4 * i, vfmaq_f32(vld1q_f32(y + 4 * i), vcvtq_f32_s32(sums[i]), worth));
  }
}

#if defined(HONE_NEON_DOT)

// Weights as the operand of the dot products. Where both must be signed, bytes that go to 255 become q by turning one
// bit, and what the offset adds is never there; those of smaller codes are what they are.
#if defined(HONE_NEON_BF16)
template <int Zero>
constexpr bool keeps_offset = true;
using Weights = uint8x16_t;
template <int Zero>
inline Weights weights(const uint8_t* at) {
  return vld1q_u8(at);
}
inline int32x4_t dot(int32x4_t sum, Weights w, int8x16_t x) {
  return vusdotq_s32(sum, w, x);
}
#else
template <int Zero>
constexpr bool keeps_offset = Zero < 128;
using Weights = int8x16_t;
template <int Zero>
inline Weights weights(const uint8_t* at) {
  const uint8x16_t w = vld1q_u8(at);
  return vreinterpretq_s8_u8(keeps_offset<Zero> ? w : veorq_u8(w, vdupq_n_u8(0x80)));
}
inline int32x4_t dot(int32x4_t sum, Weights w, int8x16_t x) {
  return vdotq_s32(sum, w, x);
}
#endif

// Four bytes to all lanes.
inline int8x16_t broadcast(const uint8_t* from) {
  uint32_t four;
  __builtin_memcpy(&four, from, sizeof four);
  return vreinterpretq_s8_u32(vdupq_n_u32(four));
}

// Activations of a step: hi[4] lo[4], or of 8 bits [4] alone.
template <int M, int Planes, int Zero, class Source, class Beside>
inline void add_segment(Source& source, const Segment& s, float* y, Beside) {
  const uint8_t* tiles = source.p;
  source.p += s.steps * step_bytes;
  for (int first = 0; first < 64; first += 16) {
    int32x4_t hi[M][4], lo[M][4];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        if constexpr (Planes == 2) hi[m][i] = vdupq_n_s32(0);
        lo[m][i] = vdupq_n_s32(keeps_offset<Zero> ? s.starts[m] : 0);
      }
    const uint8_t* at = tiles + 4 * first;
    const uint8_t* x = s.x;
    for (int64_t n = 0; n < s.steps; ++n, at += step_bytes, x += 4 * Planes) {
      Weights w[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) w[i] = weights<Zero>(at + 16 * i);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        if constexpr (Planes == 2) {
          const int8x16_t high = broadcast(x + m * s.row_bytes);
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) hi[m][i] = dot(hi[m][i], w[i], high);
        }
        const int8x16_t low = broadcast(x + m * s.row_bytes + 4 * (Planes - 1));
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) lo[m][i] = dot(lo[m][i], w[i], low);
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        if constexpr (Planes == 2) lo[m][i] = vaddq_s32(vshlq_n_s32(hi[m][i], 8), lo[m][i]);
      add_results(lo[m], s.scales + first, s.x_scales[m], y + m * 64 + first);
    }
  }
}

#else

// sums[16] += column `Lane` of 16 rows times its activation.
template <int Lane>
inline void add_column(int32x4_t* sums, uint8x16_t w, int16x4_t x) {
  const int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(w)));
  const int16x8_t high = vreinterpretq_s16_u16(vmovl_high_u8(w));
  sums[0] = vmlal_lane_s16(sums[0], vget_low_s16(low), x, Lane);
  sums[1] = vmlal_high_lane_s16(sums[1], low, x, Lane);
  sums[2] = vmlal_lane_s16(sums[2], vget_low_s16(high), x, Lane);
  sums[3] = vmlal_high_lane_s16(sums[3], high, x, Lane);
}

// Activations of a step: a[0] a[2] a[1] a[3], 16 bits each. The load takes the columns of 16 rows apart.
template <int M, int Planes, int Zero, class Source, class Beside>
inline void add_segment(Source& source, const Segment& s, float* y, Beside) {
  const uint8_t* tiles = source.p;
  source.p += s.steps * step_bytes;
  for (int first = 0; first < 64; first += 16) {
    int32x4_t sums[M][4];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sums[m][i] = vdupq_n_s32(s.starts[m]);
    const uint8_t* at = tiles + 4 * first;
    const uint8_t* x = s.x;
    for (int64_t n = 0; n < s.steps; ++n, at += step_bytes, x += 8) {
      const uint8x16x4_t w = vld4q_u8(at);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        const int16x4_t a = vreinterpret_s16_u8(vld1_u8(x + m * s.row_bytes));
        add_column<0>(sums[m], w.val[0], a);
        add_column<2>(sums[m], w.val[1], a);
        add_column<1>(sums[m], w.val[2], a);
        add_column<3>(sums[m], w.val[3], a);
      }
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) add_results(sums[m], s.scales + first, s.x_scales[m], y + m * 64 + first);
  }
}

#endif

#else

// The plain form, which is the reference of the others: the same order of activations as with AVX2. Sums of 8-bit
// activations are added in one rounding, as the others do; those of 16 bits only where the processor has that.
template <int M, int Planes, int Zero, class Source, class Beside>
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
    for (int r = 0; r < 64; ++r) {
      const float total = static_cast<float>(sum[r]), worth = as_float(s.scales[r]) * s.x_scales[m];
      float& to = y[m * 64 + r];
      to = Planes == 1 ? __builtin_fmaf(total, worth, to) : to + total * worth;
    }
  }
}

#endif

// Rows of x that meet unpacked tiles at once: as many accumulators as registers hold.
#if defined(__AVX512VNNI__) || defined(HONE_NEON)
template <int Planes>
constexpr int block = 6 / Planes;
#else
template <int Planes>
constexpr int block = 2;
#endif

template <int Planes, int Zero, class Source, class Beside>
inline __attribute__((always_inline)) void add_block(int64_t rows, Source& source, const Segment& s, float* y,
                                                     Beside beside) {
  if (rows == 1) add_segment<1, Planes, Zero>(source, s, y, beside);
  if (rows == 2) add_segment<2, Planes, Zero>(source, s, y, beside);
  if constexpr (block<Planes> >= 3)
    if (rows == 3) add_segment<3, Planes, Zero>(source, s, y, beside);
  if constexpr (block<Planes> >= 6) {
    if (rows == 4) add_segment<4, Planes, Zero>(source, s, y, beside);
    if (rows == 5) add_segment<5, Planes, Zero>(source, s, y, beside);
    if (rows == 6) add_segment<6, Planes, Zero>(source, s, y, beside);
  }
}

// What is left of two blocks is halved: a block of one row waits for its own sums.
template <int Planes>
inline int64_t block_of(int64_t rows) {
  constexpr int most = block<Planes>;
  return rows <= most ? rows : rows < 2 * most ? (rows + 1) / 2 : most;
}

// Inlined, so that what the source knows lies in registers.
template <int Planes, int Zero, class Source>
inline __attribute__((always_inline)) void add_blocks(Source& source, Segment s, int64_t count, float* y,
                                                      uint8_t* scratch) {
  in_blocks(source, s.steps, count, scratch, block_of<Planes>, [&](int64_t, int64_t rows, auto& from, auto beside) {
    add_block<Planes, Zero>(rows, from, s, y, beside);
    y += rows * 64;
    s.x += rows * s.row_bytes;
    s.starts += rows;
    s.x_scales += rows;
  });
}

template <int Planes, class Source, int Zero, int>
void product(const PackedPanel& panel, const PackedInput& x, float* y, uint8_t* scratch) {
  for (int64_t i = 0; i < x.rows * 64; ++i) y[i] = 0;
  Source source(panel);
  Segment s{x.data, x.row_bytes, x.starts, x.scales, panel.scales, 0};
  for (int64_t begin = 0; begin < panel.steps; begin += panel.segment_steps) {
    const int64_t left = panel.steps - begin;
    s.steps = left < panel.segment_steps ? left : panel.segment_steps;
#if defined(__AVX512VNNI__)
    if (x.rows <= block<Planes>)
      add_block<Planes, Zero>(x.rows, source, s, y, Nothing{});  // what is used at once streams in by itself
    else
#endif
      add_blocks<Planes, Zero>(source, s, x.rows, y, scratch);
    s.x += x.segment_bytes;
    s.starts += x.rows;
    s.x_scales += x.rows;
    s.scales += panel.scale_step;
  }
}

#if defined(__AVX512VNNI__)
// Activations of 8 bits lie as tiles want them, and so do unpacked weights.
template <class Source>
void product_tiles(const PackedPanel& panel, const PackedInput& x, float* y, uint8_t* scratch,
                   const tiles::TileUnit& unit) {
  for (int64_t i = 0; i < x.rows * 64; ++i) y[i] = 0;
  Source source(panel);
  tiles::ByteSegment s{};
  s.depth = tiles::depth_for(panel.segment_steps);
  s.x = x.data;
  s.row_bytes = x.row_bytes;
  s.rows = x.rows;
  s.starts = x.starts;
  s.x_scales = x.scales;
  s.scales = panel.scales;
  s.y = y;
  for (int64_t begin = 0; begin < panel.steps; begin += panel.segment_steps) {
    const int64_t left = panel.steps - begin;
    s.steps = left < panel.segment_steps ? left : panel.segment_steps;
    s.tiles = source.tiles(s.steps, scratch);
    unit.add_segment(s);
    s.x += x.segment_bytes;
    s.starts += x.rows;
    s.x_scales += x.rows;
    s.scales += panel.scale_step;
  }
}
#endif

}  // namespace hone::kernels::HONE_ISA::integers

#endif

namespace hone::kernels::HONE_ISA::integers {

// Of activations of 8 bits, which without their instruction lie in 16 as well: the same code, where that is not plain.
template <class Source, int Zero, int bits>
constexpr FormFunctions::Product product_8() {
#if (defined(__AVX2__) && !defined(__AVX512VNNI__)) || (defined(HONE_NEON) && !defined(HONE_NEON_DOT))
  return product<2, Source, Zero, bits>;
#else
  return product<1, Source, Zero, bits>;
#endif
}

}  // namespace hone::kernels::HONE_ISA::integers
