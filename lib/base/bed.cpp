#include "base/bed.h"

#include <algorithm>
#include <cmath>

#include "base/cpu.h"

namespace hone {

int processors() {
  static const int count = [] {
    const auto quota = cpu_quota();
    return std::min(allowed_cpus(), quota ? static_cast<int>(std::floor(*quota)) : allowed_cpus());
  }();
  return count;
}

}  // namespace hone
