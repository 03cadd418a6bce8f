// Division of whole numbers upwards.
#pragma once

#include <cstdint>

namespace hone {

// a at least 0, b above 0.
constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// The least multiple of `unit` that is not less than n.
constexpr int64_t round_up(int64_t n, int64_t unit) {
  return ceil_div(n, unit) * unit;
}

}  // namespace hone
