#include "base/memory_limit.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>

#include "base/error.h"
#include "base/units.h"

namespace hone {
namespace {

constexpr double unlimited = std::numeric_limits<double>::infinity();

// "Name:  123 kB" or "name 123" on a line of its own, in bytes; 0 where it is absent.
double field(const std::string& path, std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(name) || line.find_first_of(": ") != name.size()) continue;
    std::istringstream rest(line.substr(name.size() + 1));
    double number = 0;
    std::string unit;
    rest >> number >> unit;
    return number * (unit == "kB" ? 1024 : 1);
  }
  return 0;
}

// The number in a file of its own; nothing for "max", or where the file is absent.
std::optional<double> number_in(const std::string& path) {
  std::ifstream file(path);
  double number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

// All of the page cache counts: the system's own estimate holds some of it back.
double of_machine(const std::string& root) {
  const std::string path = root + "/proc/meminfo";
  if (field(path, "MemTotal") <= 0) return unlimited;
  const double cache = field(path, "Cached") + field(path, "Buffers") + field(path, "SReclaimable");
  const double freed = field(path, "MemFree") + cache - field(path, "Shmem");
  return std::max(field(path, "MemAvailable"), freed) + field(path, "SwapFree");
}

struct Files {
  const char *limit, *current, *cache;
};

// What one group leaves. Its page cache can be freed, and what it may swap out comes on top.
double of_group(const std::string& directory, const Files& files, double swap) {
  const std::optional<double> limit = number_in(directory + "/" + files.limit);
  if (!limit) return unlimited;
  const double current = number_in(directory + "/" + files.current).value_or(0);
  return std::max(0.0, *limit - current + field(directory + "/memory.stat", files.cache)) + swap;
}

// The groups from the process's own up to the root of the tree that is mounted here.
double of_groups(const std::string& root) {
  const double swap = field(root + "/proc/meminfo", "SwapFree");
  double least = unlimited;
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "0::/a/b" or "4:memory:/a/b"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool unified = controllers == ",,";
    if (!unified && controllers.find(",memory,") == controllers.npos) continue;
    const Files files = unified ? Files{"memory.max", "memory.current", "file"}
                                : Files{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"};
    const std::string tree = root + (unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory");
    for (std::string path = line.substr(second + 1);; path.erase(path.rfind('/'))) {
      least = std::min(least, of_group(tree + path, files, swap));
      if (path.empty() || path.rfind('/') == path.npos) break;
    }
  }
  return least;
}

double of_address_space(const std::string& root) {
  rlimit bounds;
  if (getrlimit(RLIMIT_AS, &bounds) != 0 || bounds.rlim_cur == RLIM_INFINITY) return unlimited;
  const double pages = number_in(root + "/proc/self/statm").value_or(0);
  return std::max(0.0, static_cast<double>(bounds.rlim_cur) - pages * static_cast<double>(sysconf(_SC_PAGESIZE)));
}

}  // namespace

MemoryLimit memory_limit(const std::string& root) {
  MemoryLimit least{of_machine(root), "available on this machine"};
  const auto consider = [&](double bytes, const char* reason) {
    if (bytes < least.bytes) least = {bytes, reason};
  };
  consider(of_groups(root), "left of the memory limit of its control group");
  consider(of_address_space(root), "left of the limit on address space (ulimit -v)");
  return least;
}

double own_memory() {
  return field("/proc/self/status", "RssAnon");
}

void require_memory(double bytes, const std::string& what, const std::string& help, const std::string& parts,
                    bool in_all) {
  if (bytes <= always_there) return;
  MemoryLimit limit = memory_limit();
  if (in_all) limit.bytes += own_memory();
  if (bytes > limit.bytes)
    throw usage_error("{} takes at least {} of memory{}, and {} is {}; {}", what, format_bytes(bytes),
                      parts.empty() ? "" : " (" + parts + ")", format_bytes(limit.bytes), limit.reason, help);
}

}  // namespace hone
