#include "base/memory_limit.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "support/scratch.h"

using namespace hone;
using test::Scratch;

namespace {

constexpr double kB = 1024, MB = 1024 * kB;

// A tree of /proc and /sys with these files.
void put(const Scratch& root, const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(root / path).parent_path());
  std::ofstream(root / path) << text;
}

void put_machine(const Scratch& root) {
  put(root, "proc/meminfo",
      "MemTotal:       4000 kB\nMemFree:        1000 kB\nMemAvailable:   1500 kB\nBuffers:  100 kB\nCached:  900 kB\n"
      "SwapCached:  50 kB\nShmem:  200 kB\nSReclaimable:  100 kB\nSwapTotal:  500 kB\nSwapFree:   300 kB\n");
}

}  // namespace

TEST_CASE("a machine's memory is what it could free, and its swap") {
  const Scratch root;
  put_machine(root);
  const MemoryLimit limit = memory_limit(root / "");
  CHECK(limit.bytes == (1000 + 900 + 100 + 100 - 200 + 300) * kB);
  CHECK(limit.reason == "available on this machine");
}

TEST_CASE("a control group and those above it") {
  const Scratch root;
  put(root, "proc/meminfo", "MemTotal: 9000000 kB\nMemFree: 9000000 kB\nMemAvailable: 9000000 kB\n");
  put(root, "proc/self/cgroup", "0::/a/b\n");
  put(root, "sys/fs/cgroup/a/b/memory.max", "max\n");
  CHECK(memory_limit(root / "").bytes == 9000000 * kB);
  put(root, "sys/fs/cgroup/a/memory.max", fmt::format("{}\n", 64 << 20));
  put(root, "sys/fs/cgroup/a/memory.current", fmt::format("{}\n", 40 << 20));
  put(root, "sys/fs/cgroup/a/memory.stat", fmt::format("anon 100\nfile {}\nfile_mapped 7\n", 10 << 20));
  CHECK(memory_limit(root / "").bytes == 34 * MB);
  CHECK(memory_limit(root / "").reason == "left of the memory limit of its control group");
  put(root, "proc/self/cgroup", "9:cpu,cpuacct:/\n4:memory:/x\n0::/a/b\n");
  put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", fmt::format("{}\n", 32 << 20));
  put(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", fmt::format("{}\n", 30 << 20));
  CHECK(memory_limit(root / "").bytes == 2 * MB);
}

TEST_CASE("nothing known is no limit") {
  const Scratch root;
  CHECK(std::isinf(memory_limit(root / "").bytes));
}

TEST_CASE("a limit on address space leaves what is not mapped yet") {
  const Scratch root;
  put(root, "proc/self/statm", "10 5 1 1 0 1 0\n");
  rlimit before;
  getrlimit(RLIMIT_AS, &before);
  // More than the sanitizers map (20 TB): they may want some more while the limit is on.
  constexpr rlim_t most = rlim_t{1} << 46;
  const rlimit wide{most, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_AS, &wide) == 0);
  const MemoryLimit limit = memory_limit(root / "");
  setrlimit(RLIMIT_AS, &before);
  CHECK(limit.bytes == static_cast<double>(most) - 10 * static_cast<double>(sysconf(_SC_PAGESIZE)));
  CHECK(limit.reason == "left of the limit on address space (ulimit -v)");
}

TEST_CASE("what does not fit is refused with both numbers, what fits is not") {
  CHECK_NOTHROW(require_memory(1e6, "a small thing", "do less"));
  try {
    require_memory(4e15, "the cache", "ask for fewer tokens");
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    const std::string message = error.what();
    CHECK(message.starts_with("the cache takes at least 4.00 PB of memory, and "));
    CHECK(message.ends_with("; ask for fewer tokens"));
  }
}
