// How much of a model is pruned at each step of a training run.
#pragma once

#include <cstdint>

namespace hone {

// Cubic schedule (Zhu & Gupta, arXiv 1710.01878, equation 1): `initial` up to step `begin`, then
// final + (initial - final) * (1 - (step - begin) / (end - begin))^3, and exactly `final` from `end` on. Where end <=
// begin it jumps at `begin`.
inline double cubic_sparsity(double final, int64_t step, int64_t begin, int64_t end, double initial = 0.0) {
  if (step >= begin && step >= end) return final;
  if (step <= begin) return initial;
  const double left = 1.0 - static_cast<double>(step - begin) / static_cast<double>(end - begin);
  return final + (initial - final) * left * left * left;
}

}  // namespace hone
