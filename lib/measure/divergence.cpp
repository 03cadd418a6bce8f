#include "measure/divergence.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <vector>

#include "kernels/parallel.h"

namespace hone {
namespace {

constexpr size_t lanes = 16;    // independent sums, so that the compiler may use vectors without reordering additions
constexpr size_t block = 4096;  // single precision within a block, double precision across blocks

// exp(x) for x <= 0 with a relative error below 3e-7, free of branches: 2^n * e^r with |r| <= ln(2)/2 and the Taylor
// polynomial of degree 7 for e^r. Below the smallest normal float it is 0.
inline float exp_negative(float x) {
  constexpr float log2_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f, round = 12582912.0f;
  const float kept = x > -87.0f ? x : -87.0f;
  const float shifted = kept * log2_e + round;  // adding 1.5 * 2^23 leaves the rounded whole number in the low bits
  const float n = shifted - round;
  const float r = (kept - n * ln2_high) - n * ln2_low;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const float power = std::bit_cast<float>((std::bit_cast<uint32_t>(shifted) << 23) + 0x3f800000u);
  return x > -87.0f ? p * power : 0.0f;
}

float largest(std::span<const float> x) {
  float best[lanes];
  std::fill(best, best + lanes, -INFINITY);
  size_t i = 0;
  for (; i + lanes <= x.size(); i += lanes)
    for (size_t l = 0; l < lanes; ++l) best[l] = x[i + l] > best[l] ? x[i + l] : best[l];
  for (; i < x.size(); ++i) best[0] = std::max(best[0], x[i]);
  return *std::max_element(best, best + lanes);
}

struct Sums {
  double baseline = 0, model = 0;  // of exp(logit - largest)
  double weighted = 0;             // of the baseline's exp times the difference of the shifted logits
};

struct Term {
  float baseline, model, weighted;
};

inline Term term(float a, float b, float max_a, float max_b) {
  const float x = a - max_a, y = b - max_b;
  const float p = exp_negative(x), product = p * (x - y);
  return {p, exp_negative(y), p > 0 ? product : 0.0f};  // 0 * infinity adds nothing
}

Sums sums(const float* a, const float* b, size_t n, float max_a, float max_b) {
  Sums total;
  for (size_t start = 0; start < n; start += block) {
    float p[lanes] = {}, q[lanes] = {}, w[lanes] = {};
    const size_t stop = std::min(n, start + block);
    size_t i = start;
    for (; i + lanes <= stop; i += lanes)
      for (size_t l = 0; l < lanes; ++l) {
        const Term t = term(a[i + l], b[i + l], max_a, max_b);
        p[l] += t.baseline;
        q[l] += t.model;
        w[l] += t.weighted;
      }
    for (; i < stop; ++i) {
      const Term t = term(a[i], b[i], max_a, max_b);
      p[0] += t.baseline;
      q[0] += t.model;
      w[0] += t.weighted;
    }
    for (size_t l = 0; l < lanes; ++l) {
      total.baseline += p[l];
      total.model += q[l];
      total.weighted += w[l];
    }
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
  kernels::parallel_for(rows, 1 + 65536 / vocab, [&](int64_t begin, int64_t end) {
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
