#include "base/threads.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/cpu.h"
#include "base/error.h"

namespace hone {

namespace {

// What there is for one process.
ThreadChoice of_this_machine() {
  const int cores = physical_cores();
  // More threads than the quota pays for would wait for one another in every loop.
  if (const auto quota = cpu_quota(); quota && std::ceil(*quota) < cores)
    return {static_cast<int>(std::ceil(*quota)), fmt::format("CPU quota of {:.4g}", *quota)};
  const int allowed = allowed_cpus();
  if (const long all = sysconf(_SC_NPROCESSORS_ONLN); allowed < all)
    return {cores, fmt::format("affinity mask: {} of {} CPUs", allowed, all)};
  return {cores, "physical cores"};
}

}  // namespace

ThreadChoice choose_threads(int flag, int sharing) {
  if (flag > 0) return {flag, "asked for"};
  for (const char* variable : {"HONE_THREADS", "OMP_NUM_THREADS"}) {
    const char* text = std::getenv(variable);
    if (!text || !*text) continue;
    int count = 0;
    const auto [end, error] = std::from_chars(text, text + std::strlen(text), count);
    // OMP_NUM_THREADS may list one count for each nesting level; the first is the outermost.
    const bool whole = *end == 0 || (*end == ',' && variable[0] == 'O');
    if (error == std::errc::result_out_of_range && whole && *text != '-')
      throw usage_error("{}='{}' is too large: at most {} threads", variable, text, std::numeric_limits<int>::max());
    if (error != std::errc() || !whole || count < 1)
      throw usage_error("{}='{}' is not a number of threads; give one of 1 or more", variable, text);
    return {count, variable};
  }
  const ThreadChoice all = of_this_machine();
  if (sharing == 1) return all;
  return {std::max(1, all.count / sharing), fmt::format("{} / {}", all.source, sharing)};
}

}  // namespace hone
