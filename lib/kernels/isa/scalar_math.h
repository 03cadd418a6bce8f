// Scalar functions written so that loops over them vectorize. Included only by files that are compiled for each
// instruction set.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/dtype.h"

namespace hone::kernels::HONE_ISA::scalar {

[[gnu::always_inline]] inline float load(const float* p) {
  return *p;
}
[[gnu::always_inline]] inline float load(const bf16* p) {
  const uint32_t u = static_cast<uint32_t>(p->bits) << 16;
  float x;
  std::memcpy(&x, &u, sizeof x);
  return x;
}

[[gnu::always_inline]] inline void store(float* p, float x) {
  *p = x;
}
// Rounds to nearest even. A NaN may become an infinity, which every check for non-finite values also sees.
[[gnu::always_inline]] inline void store(bf16* p, float x) {
  uint32_t u;
  std::memcpy(&u, &x, sizeof u);
  p->bits = static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

// What the draws of a row follow from: two halves of a seed, mixed with the row's number.
struct RowKey {
  uint32_t column, row;
};
[[gnu::always_inline]] inline RowKey row_key(uint64_t seed, uint32_t row) {
  return {static_cast<uint32_t>(seed), (row * 0x9e3779b1u) ^ static_cast<uint32_t>(seed >> 32)};
}

// 32 bits at place `i` of the row: two rounds of a 32-bit finalizer (Murmur3's) over it. Vectorizes, and passes for
// chance.
[[gnu::always_inline]] inline uint32_t hash(RowKey key, uint32_t i) {
  uint32_t h = (i * 0x85ebca77u) ^ key.column;
  h = (h ^ (h >> 16)) * 0x85ebca6bu;
  h = ((h ^ (h >> 13)) + key.row) * 0xc2b2ae35u;
  h = (h ^ (h >> 16)) * 0x27d4eb2fu;
  return h ^ (h >> 15);
}

// e^x within 2 ulp for x in [-87, 88]; clamped outside. Cody-Waite reduction and the polynomial of Cephes' expf.
[[gnu::always_inline]] inline float exp_fast(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest integer
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return p * power;
}

[[gnu::always_inline]] inline float sigmoid(float x) {
  return 1.0f / (1.0f + exp_fast(-x));
}

[[gnu::always_inline]] inline float tanh_fast(float x) {
  return 1.0f - 2.0f / (exp_fast(2.0f * x) + 1.0f);
}

}  // namespace hone::kernels::HONE_ISA::scalar
