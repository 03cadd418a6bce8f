// f32 matrices to panels of 8-bit integers, as panels.cpp makes those of bf16: twice a step for each weight.
#include "kernels/isa/gemm/int8.h"

#include "kernels/isa/float_bits.h"
#include "kernels/isa/function.h"
#include "kernels/isa/packed/rounding.h"
#include "kernels/panel.h"

namespace hone::kernels::HONE_ISA {
namespace {

constexpr int64_t square = 16;               // words of a transposed block, each way
constexpr uint32_t zero_word = 0x80808080u;  // four bytes of 0
constexpr uint32_t infinity_bits = 0x7f800000u;

// The scale of an output whose largest number has these bits, and integers a unit: 0 where all become 0. Rounded up to
// bf16, so that none is beyond 127.
inline float scale_of(uint32_t bits_of_largest, bf16* scale) {
  const float largest = as_float(bits_of_largest);
  scale->bits = 0;
  if (bits_of_largest >= infinity_bits) scale->bits = 0x7fc0;  // NaN
  if (!(largest > 1e-30f) || bits_of_largest >= infinity_bits) return 0;
  const float exact = largest / 127.0f;
  scale->bits = static_cast<uint16_t>((size_bits(exact) + 0xffffu) >> 16);
  return 1.0f / as_float(*scale);
}

// n <= 64 numbers to bytes.
inline void to_bytes(const float* x, int64_t n, float inverse, uint8_t* bytes) {
  int32_t q[16];
  for (int64_t i = 0; i < n; i += 16) {
    float last[16] = {};
    const float* from = x + i;
    if (n - i < 16) {
      for (int64_t j = 0; j < n - i; ++j) last[j] = from[j];
      from = last;
    }
    round16(from, inverse, q);
    for (int j = 0; j < 16; ++j) bytes[i + j] = static_cast<uint8_t>(q[j] + 128);
  }
}

// Outputs are rows of w: 16 of them at a time, 64 columns as 16 words, transposed.
void pack_rows(ConstView w, int64_t first, int64_t outputs, uint32_t* out, bf16* scales) {
  const int64_t steps = (w.cols + 3) / 4;
  float inverse[panel_rows] = {};
  for (int64_t r = 0; r < panel_rows; ++r)
    inverse[r] = scale_of(r < outputs ? largest_bits(w.row<float>(first + r), w.cols) : 0, scales + r);
  alignas(64) uint32_t words[square * square], turned[square * square];
  for (int64_t i = 0; i < panel_rows; i += square)
    for (int64_t s = 0; s < steps; s += square) {
      const int64_t left = steps - s, columns = w.cols - 4 * s < 4 * square ? w.cols - 4 * s : 4 * square;
      for (int64_t r = 0; r < square; ++r) {
        uint32_t* row = words + r * square;
        for (int64_t k = 0; k < square; ++k) row[k] = zero_word;
        if (inverse[i + r] > 0)
          to_bytes(w.row<float>(first + i + r) + 4 * s, columns, inverse[i + r], reinterpret_cast<uint8_t*>(row));
      }
      uint32_t* to = out + s * panel_rows + i;
      if (left >= square) {
        transpose16(words, square, to, panel_rows);
        continue;
      }
      transpose16(words, square, turned, square);
      for (int64_t k = 0; k < left; ++k)
        __builtin_memcpy(to + k * panel_rows, turned + k * square, square * sizeof(uint32_t));
    }
}

// Outputs are columns of w: four rows interleave into a row of words.
void pack_columns(ConstView w, int64_t first, int64_t outputs, uint32_t* out, bf16* scales) {
  uint32_t largest[panel_rows] = {};
  for (int64_t r = 0; r < w.rows; ++r) {
    const float* row = w.row<float>(r) + first;
#pragma omp simd
    for (int64_t c = 0; c < outputs; ++c) {
      const uint32_t bits = size_bits(row[c]);
      largest[c] = bits > largest[c] ? bits : largest[c];
    }
  }
  float inverse[panel_rows] = {};
  for (int64_t c = 0; c < panel_rows; ++c) inverse[c] = scale_of(largest[c], scales + c);
  for (int64_t r = 0; r < w.rows; r += 4, out += panel_rows) {
    uint32_t words[panel_rows] = {};
    for (int j = 0; j < 4; ++j) {
      float scaled[panel_rows] = {};
      int32_t q[panel_rows];
      if (r + j < w.rows) {
        const float* row = w.row<float>(r + j) + first;
#pragma omp simd
        for (int64_t c = 0; c < outputs; ++c) scaled[c] = inverse[c] > 0 ? row[c] * inverse[c] : 0.0f;
      }
      for (int64_t c = 0; c < panel_rows; c += 16) round16(scaled + c, 1.0f, q + c);
#pragma omp simd
      for (int64_t c = 0; c < panel_rows; ++c) words[c] |= (static_cast<uint32_t>(q[c] + 128) & 0xffu) << (8 * j);
    }
    __builtin_memcpy(out, words, sizeof words);
  }
}

void pack(ConstView w, bool transposed, int64_t first, uint8_t* values, bf16* scales) {
  const int64_t n = transposed ? w.cols : w.rows, outputs = n - first < panel_rows ? n - first : panel_rows;
  auto* out = reinterpret_cast<uint32_t*>(values);
  transposed ? pack_columns(w, first, outputs, out, scales) : pack_rows(w, first, outputs, out, scales);
}

}  // namespace

template <>
Int8Functions functions_of<Int8Functions>() {
  return {pack};
}

}  // namespace hone::kernels::HONE_ISA
