// How much memory this process may still take, and refusing work that needs more before it takes any. Where memory is
// promised and not there, the system ends the process when it is written to.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

namespace hone {

struct MemoryLimit {
  double bytes = 0;    // infinite where nothing is known
  std::string reason;  // "available on this machine", "left of its control group's limit", …
};

// The smallest of: what the machine could free, with its swap; what the limits of this process's control groups
// (version 1 or 2) leave; what its limit on address space (ulimit -v) leaves. Never less than the process could have.
// `root` stands before /proc and /sys, for tests.
MemoryLimit memory_limit(const std::string& root = "");

// Of two sizes that a user gives: the largest number where it would be larger.
inline int64_t sum_of(int64_t a, int64_t b) {
  int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? std::numeric_limits<int64_t>::max() : sum;
}

double own_memory();  // bytes that this process has taken already, without mapped files

constexpr double always_there = 64e6;  // bytes: for less nobody is asked

// `what` takes at least `bytes` beside what the process has already. Throws Error(usage) with both numbers, the `parts`
// of the first if any are given, and what helps, where that is more than there is. With `in_all` the bytes hold what
// the process has already.
void require_memory(double bytes, const std::string& what, const std::string& help, const std::string& parts = "",
                    bool in_all = false);

}  // namespace hone
