#include "measure/divergence.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/parallel.h"

namespace hone {
namespace {

constexpr size_t lanes = 16;    // independent sums, so that the compiler may use vectors without reordering additions
constexpr size_t block = 1024;  // single precision within a block, double precision across blocks

// Comparisons below are made on the bits: comparing floats could trap, which keeps the compiler from using vectors.

// All ones for -87 <= x <= 0, zero for less. exp(-87) is near the smallest normal float.
inline uint32_t visible(float x) {
  return (std::bit_cast<uint32_t>(x) & 0x7fffffffu) <= std::bit_cast<uint32_t>(87.0f) ? 0xffffffffu : 0u;
}

inline float masked(float x, uint32_t mask) {
  return std::bit_cast<float>(std::bit_cast<uint32_t>(x) & mask);
}

// exp(x) for -87 <= x <= 0 with a relative error below 3e-7: 2^n * e^r with |r| <= ln(2)/2 and the Taylor polynomial of
// degree 7 for e^r.
inline float exp_negative(float x) {
  constexpr float log2_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f, round = 12582912.0f;
  const float shifted = x * log2_e + round;  // adding 1.5 * 2^23 leaves the rounded whole number in the low bits
  const float n = shifted - round;
  const float r = (x - n * ln2_high) - n * ln2_low;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) << 23) + 0x3f800000u);
}

// Of numbers without NaN. Sign and magnitude become two's complement and back, so that whole numbers are compared.
float largest(std::span<const float> x) {
  const auto ordered = [](int32_t bits) { return bits ^ ((bits >> 31) & 0x7fffffff); };
  int32_t best = std::numeric_limits<int32_t>::min();
  for (const float value : x) best = std::max(best, ordered(std::bit_cast<int32_t>(value)));
  return std::bit_cast<float>(ordered(best));
}

struct Sums {
  double baseline = 0, model = 0;  // of exp(logit - largest)
  double weighted = 0;             // of the baseline's exp times the difference of the shifted logits
};

// Sum in a fixed order that vectors can keep.
double sum(const float* x, size_t n) {
  float partial[lanes] = {};
  for (size_t i = 0; i + lanes <= n; i += lanes)
    for (size_t l = 0; l < lanes; ++l) partial[l] += x[i + l];
  for (size_t i = n - n % lanes; i < n; ++i) partial[0] += x[i];
  double total = 0;
  for (const float value : partial) total += value;
  return total;
}

Sums sums(const float* a, const float* b, size_t n, float max_a, float max_b) {
  Sums total;
  float p[block], q[block], w[block];
  for (size_t start = 0; start < n; start += block) {
    const size_t count = std::min(block, n - start);
    for (size_t i = 0; i < count; ++i) {
      const float x = a[start + i] - max_a, y = b[start + i] - max_b;
      const uint32_t mask_x = visible(x), mask_y = visible(y);
      p[i] = masked(exp_negative(masked(x, mask_x)), mask_x);
      q[i] = masked(exp_negative(masked(y, mask_y)), mask_y);
      w[i] = masked(p[i] * (x - y), mask_x);  // what the baseline gives no probability adds nothing, not 0 * infinity
    }
    total.baseline += sum(p, count);
    total.model += sum(q, count);
    total.weighted += sum(w, count);
  }
  return total;
}

bool has_nan(std::span<const float> x) {
  int count = 0;
  for (const float value : x) count += value != value;
  return count != 0;
}

}  // namespace

Divergence divergence(std::span<const float> baseline, std::span<const float> model) {
  assert(baseline.size() == model.size() && !baseline.empty());
  if (has_nan(baseline) || has_nan(model)) return {NAN, false};
  const float max_a = largest(baseline), max_b = largest(model);
  if (std::isinf(max_a) || std::isinf(max_b)) return {NAN, false};  // nothing is possible, or more than certain
  const auto first = [](std::span<const float> x, float value) {
    return std::find(x.begin(), x.end(), value) - x.begin();
  };
  const bool agree = first(baseline, max_a) == first(model, max_b);
  const Sums s = sums(baseline.data(), model.data(), baseline.size(), max_a, max_b);
  // sum p (ln p - ln q), with ln p = x - ln(sum exp x) for shifted logits x. Rounding may leave it a little below 0.
  const double kl = s.weighted / s.baseline - std::log(s.baseline) + std::log(s.model);
  return {std::isnan(kl) ? kl : std::max(kl, 0.0), agree};
}

WindowDivergence divergence_of_rows(std::span<const float> baseline, std::span<const float> model, int64_t vocab) {
  assert(vocab > 0 && baseline.size() == model.size() && baseline.size() % static_cast<size_t>(vocab) == 0);
  const auto width = static_cast<size_t>(vocab);
  const auto rows = static_cast<int64_t>(baseline.size() / width);
  std::vector<Divergence> each(static_cast<size_t>(rows));
  kernels::parallel_for(rows, kernels::row_grain(vocab), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const size_t at = static_cast<size_t>(r) * width;
      each[static_cast<size_t>(r)] = divergence(baseline.subspan(at, width), model.subspan(at, width));
    }
  });
  WindowDivergence total;
  for (const Divergence& row : each) {
    total.kl += row.kl;
    total.agree += row.agree;
  }
  total.tokens = rows;
  return total;
}

}  // namespace hone
