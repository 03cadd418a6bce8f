#include "measure/machine.h"

#include <algorithm>
#include <fstream>

#include "base/cpu.h"
#include "base/version.h"
#include "kernels/parallel.h"

namespace hone {
namespace {

int64_t memory_bytes() {
  int64_t bytes = 0;
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("MemTotal:")) bytes = std::stoll(line.substr(9)) * 1024;
  // In a container the limit is that of the control group; without one the file is absent or says "max".
  std::ifstream limit_file("/sys/fs/cgroup/memory.max");
  if (int64_t limit = 0; limit_file >> limit) bytes = bytes == 0 ? limit : std::min(bytes, limit);
  return bytes;
}

}  // namespace

Machine this_machine() {
  return {.cpu = cpu_model(),
          .flags = cpu_flags(),
          .isa = std::string(name_of(isa())),
          .cores = physical_cores(),
          .threads = kernels::threads(),
          .memory_bytes = memory_bytes(),
          .version = version()};
}

}  // namespace hone
