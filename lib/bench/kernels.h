// Single kernels at each instruction set.
#pragma once

#include <string>
#include <vector>

#include "report/report.h"

namespace hone {

struct KernelsSettings {
  std::string only;  // texts with commas between: kernels whose names contain one of them; empty: all
  std::vector<int> thread_counts = {1};
  int64_t repeat = 5;
  bool refresh_ceilings = false;
};

// Throws Error(usage) where `only` finds no kernel.
Report bench_kernels(const KernelsSettings& settings);
void check_kernels(const KernelsSettings& settings);  // throws as that, and measures nothing

}  // namespace hone
