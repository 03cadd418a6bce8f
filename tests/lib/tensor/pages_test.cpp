#include "tensor/pages.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

using namespace hone;

namespace {

// Whether each page of a mapping is in this process's memory now, by what the system says of it.
int64_t resident_kilobytes(const void* start) {
  FILE* maps = std::fopen("/proc/self/smaps", "r");
  REQUIRE(maps);
  char line[512];
  bool here = false;
  long kilobytes = -1;
  while (std::fgets(line, sizeof line, maps) && kilobytes < 0) {
    unsigned long first = 0, last = 0;
    if (std::sscanf(line, "%lx-%lx ", &first, &last) == 2) here = first == reinterpret_cast<unsigned long>(start);
    if (here) std::sscanf(line, "Rss: %ld kB", &kilobytes);
  }
  std::fclose(maps);
  return kilobytes;
}

}  // namespace

TEST_CASE("pages of a mapped file leave memory and come back; owned storage stays") {
  const size_t bytes = size_t{1} << 20;
  char name[] = "/tmp/hone-pages-XXXXXX";
  const int fd = mkstemp(name);
  REQUIRE(fd >= 0);
  unlink(name);
  const std::vector<float> numbers(bytes / sizeof(float), 1.5f);
  REQUIRE(write(fd, numbers.data(), bytes) == static_cast<ssize_t>(bytes));
  void* start = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  REQUIRE(start != MAP_FAILED);
  const auto unmap = [bytes](void* p) { munmap(p, bytes); };
  const Tensor mapped = Tensor::over(Storage::external(start, bytes, std::shared_ptr<void>(start, unmap)), 0,
                                     {static_cast<int64_t>(numbers.size())}, DType::f32);
  const auto sum = [](const Tensor& t) {
    double total = 0;
    for (const float x : t.span<float>()) total += static_cast<double>(x);
    return total;
  };
  const double expected = 1.5 * static_cast<double>(numbers.size());
  CHECK(sum(mapped) == expected);
  CHECK(resident_kilobytes(start) == 1024);
  let_go(mapped);
  CHECK(resident_kilobytes(start) == 0);
  CHECK(sum(mapped) == expected);

  const Tensor owned = mapped.clone();
  let_go(owned);
  let_go(Tensor());
  CHECK(sum(owned) == expected);
}
