// What loops over many sizes do under the sanitizers: these look at what code touches, which each path shows once, and
// the plain build, where all runs, at the numbers.
#pragma once

#include <cstdint>

namespace hone::test {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

// Whether case `i` runs: every one, but under the sanitizers one of `of`. Of two loops within each other, with the sum of
// their counters, every value of either still runs.
constexpr bool takes_turn(int64_t i, int64_t of) {
  return !sanitized || i % of == 0;
}

// How many draws or rounds that are alike.
constexpr int64_t rounds_of(int64_t all, int64_t sanitizers) {
  return sanitized ? sanitizers : all;
}

}  // namespace hone::test
