#include "base/cpu.h"

#include <sched.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#else
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/spelling.h"

namespace hone {
namespace {

constexpr std::array<std::string_view, 8> names = {"portable", "neon",   "neon_dot",    "neon_bf16",
                                                   "avx2",     "avx512", "avx512_bf16", "amx"};

// Flags as the kernel lists them: they already account for what the operating system saves on a context switch.
std::set<std::string> read_flags() {
  std::set<std::string> result;
#if defined(__aarch64__)
  // By the bits that the kernel hands to each program (its asm/hwcap.h), with the names that they have in
  // /proc/cpuinfo: that file is the host's where an emulator runs the program.
  const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  const auto add = [&](unsigned long bits, int bit, const char* name) {
    if ((bits >> bit & 1) != 0) result.insert(name);
  };
  add(first, 1, "asimd");
  add(first, 20, "asimddp");
  add(first, 22, "sve");
  add(second, 13, "i8mm");
  add(second, 14, "bf16");
#else
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    for (std::string word; words >> word;) result.insert(word);
    break;
  }
#endif
  return result;
}

const std::set<std::string>& kernel_flags() {
  static const std::set<std::string> flags = read_flags();
  return flags;
}

bool has(std::initializer_list<const char*> wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [](const char* flag) { return kernel_flags().contains(flag); });
}

#if defined(__x86_64__)
// Tiles are 8 KB of registers, which Linux saves for processes that asked: once, for all their threads, until another
// program is executed (Documentation/arch/x86/xstate.rst).
bool may_use_tiles() {
  constexpr long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool granted = syscall(SYS_arch_prctl, request, tile_data) == 0;
  return granted;
}
#endif

std::atomic<int> current{-1};

}  // namespace

std::string_view name_of(Isa level) {
  return names[static_cast<size_t>(level)];
}

std::vector<Isa> isa_levels() {
  std::vector<Isa> levels = {Isa::portable};
  // Whether the processor has a level, and so may have the next.
  const auto add = [&](Isa level, std::initializer_list<const char*> flags) {
    if (!has(flags)) return false;
    levels.push_back(level);
    return true;
  };
#if defined(__aarch64__)
  add(Isa::neon, {"asimd"}) && add(Isa::neon_dot, {"asimddp"}) && add(Isa::neon_bf16, {"bf16", "i8mm"});
#else
  add(Isa::avx2, {"avx2", "fma", "f16c", "bmi1", "bmi2"}) &&
      add(Isa::avx512, {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512vbmi", "avx512_vbmi2",
                        "avx512_bitalg"}) &&
      add(Isa::avx512_bf16, {"avx512_bf16"});
#endif
#if defined(__x86_64__)
  if (levels.back() == Isa::avx512_bf16 && has({"amx_tile", "amx_bf16", "amx_int8"}) && may_use_tiles())
    levels.push_back(Isa::amx);
#endif
  return levels;
}

Isa choose_isa(const char* forced, const std::vector<Isa>& levels) {
  if (!forced || !*forced) return levels.back();
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] != forced) continue;
    const Isa level = static_cast<Isa>(i);
    if (std::find(levels.begin(), levels.end(), level) == levels.end())
      throw usage_error("HONE_ISA={}: this processor has no {}; its highest level is {}", forced, forced,
                        name_of(levels.back()));
    return level;
  }
  throw usage_error("HONE_ISA={}: unknown instruction set; use {}", forced,
                    either_of(std::vector<std::string>(names.begin(), names.end())));
}

Isa isa() {
  int level = current.load(std::memory_order_acquire);
  if (level < 0) {
    level = static_cast<int>(choose_isa(std::getenv("HONE_ISA"), isa_levels()));
    current.store(level, std::memory_order_release);
  }
  return static_cast<Isa>(level);
}

void set_isa(Isa level) {
  current.store(static_cast<int>(level), std::memory_order_release);
}

bool slow_bf16_dots() {
#if defined(__x86_64__)
  return __builtin_cpu_is("intel") != 0;
#else
  return false;
#endif
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  std::string part;  // Arm's processors have numbers
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
    if (line.starts_with("CPU implementer")) part = "Arm, implementer" + line.substr(line.find(':') + 1);
    if (line.starts_with("CPU part")) return part + ", part" + line.substr(line.find(':') + 1);
  }
  return "unknown";
}

std::vector<std::string> cpu_flags() {
  std::vector<std::string> result;
  for (const char* flag : {"avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_vbmi2", "avx512_bf16",
                           "amx_bf16", "amx_int8", "asimd", "asimddp", "bf16", "i8mm", "sve"})
    if (has({flag})) result.emplace_back(flag);
  return result;
}

int allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

int physical_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  std::set<std::string> cores;  // siblings of one core share one list
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
    std::string siblings;
    if (!(file >> siblings)) siblings = fmt::format("cpu{}", cpu);
    cores.insert(siblings);
  }
  return std::max<int>(1, static_cast<int>(cores.size()));
}

std::optional<double> cpu_quota(const std::string& groups, const std::string& mount) {
  std::optional<double> least;
  const auto limit = [&](double quota, double period) {
    if (quota > 0 && period > 0) least = std::min(least.value_or(quota / period), quota / period);
  };
  const auto read = [](const std::string& path) {
    std::ifstream file(path);
    double number = 0;
    return file >> number ? number : 0;  // "max", or no such file
  };
  const auto look_at = [&](const std::string& folder) {
    std::ifstream both(folder + "/cpu.max");
    double quota = 0, period = 0;
    if (both >> quota >> period) limit(quota, period);
    limit(read(folder + "/cpu.cfs_quota_us"), read(folder + "/cpu.cfs_period_us"));
  };
  std::ifstream file(groups);
  for (std::string line; std::getline(file, line);) {  // number:controllers:path
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    const std::string root = controllers.empty() ? mount : mount + "/" + controllers;
    // In a container the path may be the host's, of which only the end is mounted here.
    for (std::string path = line.substr(second + 1);; path.erase(path.rfind('/'))) {
      look_at(root + path);
      if (path.find('/') == std::string::npos) break;
    }
  }
  return least;
}

}  // namespace hone
