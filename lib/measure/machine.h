// The machine and build that a number was measured on.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "report/report.h"

namespace hone {

struct Machine {
  std::string cpu;                 // "AMD EPYC"
  std::vector<std::string> flags;  // those that matter here: avx2, avx512_bf16, amx_int8, …
  std::string isa;                 // instruction set in use
  int cores = 0;                   // physical ones that this process may use
  int threads = 0;                 // used
  int64_t memory_bytes = 0;        // of the machine, or the limit of the control group this process is in
  std::string version;             // of this build
};

Machine this_machine();  // threads: those of kernels/parallel.h

nlohmann::ordered_json to_json(const Machine& machine);

// For Report::common(): cpu, isa, threads and, with `details`, cores, memory_bytes and cpu_flags (one text, separated
// by blanks).
void add_machine(Row& row, const Machine& machine, bool details = false);

}  // namespace hone
