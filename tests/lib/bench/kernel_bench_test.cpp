#include "bench/kernel_bench.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <thread>

#include "kernels/attention/cache_code.h"
#include "kernels/parallel.h"

using namespace hone;

namespace {

std::vector<Isa> seen;  // levels at which the kernel of the test ran, without repeats
int threads_seen = 0;

KernelEntry watcher() {
  return {"watcher", "", false, [] {
            return KernelCase{DType::f32, 10, 20, [] {
                                threads_seen = kernels::threads();
                                if (seen.empty() || seen.back() != isa()) seen.push_back(isa());
                                std::this_thread::sleep_for(std::chrono::microseconds(100));
                              }};
          }};
}

}  // namespace

TEST_CASE("levels take turns; instruction set and threads are as before") {
  const std::vector<Isa> levels = isa_levels();
  const Isa before = isa();
  const int threads = kernels::threads();
  seen.clear();
  const KernelResult result = time_kernel(watcher(), levels, {.threads = 1, .repeat = 3, .seconds = 0.001});
  CHECK(isa() == before);
  CHECK(kernels::threads() == threads);
  CHECK(threads_seen == 1);
  CHECK(result.flops == 10);
  CHECK(result.bytes == 20);
  REQUIRE(result.levels.size() == levels.size());
  for (size_t i = 0; i < levels.size(); ++i) {
    CHECK(result.levels[i].isa == levels[i]);
    REQUIRE(result.levels[i].seconds.size() == 3);
    for (const double seconds : result.levels[i].seconds) CHECK(seconds >= 1e-4);
  }
  if (levels.size() == 1) return;
  // A warm-up and three repetitions of each, in turn.
  std::vector<Isa> wanted;
  for (int round = 0; round < 4; ++round) wanted.insert(wanted.end(), levels.begin(), levels.end());
  CHECK(seen == wanted);
}

TEST_CASE("a slow kernel gets fewer repetitions, but one") {
  const std::vector<Isa> level = {isa()};
  KernelSettings settings{.threads = 1, .repeat = 1000, .seconds = 0.00001, .most_seconds = 0.002};
  const size_t some = time_kernel(watcher(), level, settings).levels[0].seconds.size();
  CHECK(some >= 1);
  CHECK(some <= 20);
  settings.most_seconds = 0;
  CHECK(time_kernel(watcher(), level, settings).levels[0].seconds.size() == 1);
}

TEST_CASE("the bound is the slower of products and memory") {
  kernels::Ceilings c;
  c.read_bytes_per_second = 100;
  c.f32_flops_per_second = 1000;
  c.bf16_flops_per_second = 4000;
  CHECK(bound_of(2000, 10, DType::f32, c).seconds == 2);
  CHECK(bound_of(2000, 10, DType::f32, c).name == std::string("matrix"));
  CHECK(bound_of(2000, 10, DType::bf16, c).seconds == 0.5);
  CHECK(bound_of(2000, 100, DType::bf16, c).name == std::string("bandwidth"));
  CHECK(bound_of(0, 50, DType::bf16, c).seconds == 0.5);
  c.bf16_flops_per_second = 0;  // no instruction for it
  CHECK(matrix_peak(DType::bf16, c) == 1000);
}

TEST_CASE("the table of kernels: every entry is named once") {
  std::set<std::string> names;
  for (const KernelEntry& entry : kernel_entries()) CHECK(names.insert(std::string(entry.name) + entry.shape).second);
  CHECK(names.size() > 20);
}

TEST_CASE("caches are decoded in each of their codes") {
  for (const kernels::CacheCode code : kernels::all_cache_codes) {
    CAPTURE(std::string(info_of(code).name));
    const auto decodes = [&](const KernelEntry& entry) {
      return entry.name == "attention_decode" && entry.shape.find(info_of(code).name) != std::string::npos;
    };
    CHECK(std::ranges::count_if(kernel_entries(), decodes) == 1);
  }
}

TEST_CASE("small kernels of the table run and say what they do") {
  const auto small = [](const KernelEntry& entry) {
    return entry.shape.find("x 256 x") != std::string::npos || entry.name == "attention_route" ||
           entry.shape == "768 x 768 bf16";
  };
  int count = 0;
  for (const KernelEntry& entry : kernel_entries()) {
    if (!small(entry)) continue;
    const KernelCase kernel = entry.make();
    CHECK(kernel.flops > 0);
    kernel.run();
    ++count;
  }
  CHECK(count == 4);
}

TEST_CASE("a cache of codes is counted by its rows and scales, and read") {
  const auto entry = std::ranges::find_if(kernel_entries(), [](const KernelEntry& e) {
    return e.name == "attention_decode" && e.shape.find("int4") != std::string::npos;
  });
  REQUIRE(entry != kernel_entries().end());
  const KernelCase kernel = entry->make();
  const double row = 12 * (32 + 2),
               sequence = 2 * 1024 * row;  // keys and values, 12 heads: codes of 64 numbers, a scale
  CHECK(kernel.bytes / sequence == std::floor(kernel.bytes / sequence));
  kernel.run();
}
