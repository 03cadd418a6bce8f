// Numbers for tests of kernels, and their rounding.
#pragma once

#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "base/random.h"

namespace hone::kernels::test {

inline std::vector<float> normal_numbers(int64_t count, uint64_t seed, double scale = 1) {
  Random random(seed, "numbers");
  std::vector<float> v(static_cast<size_t>(count));
  for (float& x : v) x = static_cast<float>(random.normal() * scale);
  return v;
}

inline std::vector<bf16> rounded(const std::vector<float>& v) {
  std::vector<bf16> r(v.size());
  for (size_t i = 0; i < v.size(); ++i) r[i] = to_bf16(v[i]);
  return r;
}

inline std::vector<float> widened(const std::vector<bf16>& v) {
  std::vector<float> r(v.size());
  for (size_t i = 0; i < v.size(); ++i) r[i] = to_float(v[i]);
  return r;
}

// Numbers that bf16 holds exactly, so that f32 and bf16 products differ by their sums' rounding alone.
inline std::vector<float> exact_numbers(int64_t count, uint64_t seed) {
  return widened(rounded(normal_numbers(count, seed)));
}

}  // namespace hone::kernels::test
