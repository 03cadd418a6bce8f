#include "measure/machine.h"

#include <doctest/doctest.h>
#include <sys/mman.h>

#include <cstring>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/version.h"
#include "measure/memory.h"

using namespace hone;

TEST_CASE("clocks go forward") {
  Stopwatch watch;
  const double first = watch.seconds(), second = watch.seconds();
  CHECK(first >= 0);
  CHECK(second >= first);
  CHECK(watch.lap() >= second);
  CHECK(watch.milliseconds() >= 0);
}

TEST_CASE("memory taken shows in the peak, and the peak can be reset") {
  constexpr size_t bytes = 64 << 20;
  const int64_t before = rss_bytes();
  CHECK(before > 0);
  // Straight from the system: an allocator may keep what is freed.
  void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(block != MAP_FAILED);
  std::memset(block, 1, bytes);
  CHECK(rss_bytes() >= before + static_cast<int64_t>(bytes) / 2);
  CHECK(peak_rss_bytes() >= rss_bytes() - (1 << 20));
  munmap(block, bytes);
  const int64_t peak = peak_rss_bytes();
  CHECK(peak >= static_cast<int64_t>(bytes));
  if (reset_peak_rss()) CHECK(peak_rss_bytes() < peak - static_cast<int64_t>(bytes) / 2);
}

TEST_CASE("a report can carry the machine") {
  const Machine machine = this_machine();
  CHECK(machine.isa == name_of(isa()));
  CHECK(machine.cores >= 1);
  CHECK(machine.threads >= 1);
  CHECK(machine.memory_bytes > 1 << 20);
  CHECK(machine.version == version());
  const auto json = to_json(machine);
  CHECK(json["cpu"] == cpu_model());
  CHECK(json["cpu_flags"].size() == machine.flags.size());
  Report report;
  report.add(Row().set("model", "m"));
  add_machine(report.common(), machine);
  CHECK(render(report, Format::csv).find("schema_version,model,cpu,isa,threads,version\n") == 0);
  add_machine(report.common(), machine, true);
  CHECK(
      render(report, Format::csv).find("schema_version,model,cpu,isa,threads,cores,memory_bytes,cpu_flags,version\n") ==
      0);
}
