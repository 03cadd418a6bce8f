#include "kernels/ceilings.h"

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/stop.h"
#include "kernels/isa/ceilings_table.h"
#include "kernels/parallel.h"
#include "kernels/select.h"

namespace hone::kernels {
namespace {

constexpr int64_t page = CeilingFunctions::page;
constexpr int64_t smallest_buffer = int64_t{512} << 20;
constexpr double seconds_each = 0.5;

// Of all threads of this process. Threads that wait for each other in a parallel loop count as running.
double cpu_seconds() {
  timespec time = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Sets the number of threads until the end of the scope.
class ThreadsFor {
 public:
  explicit ThreadsFor(int count) : before_(threads()) { set_threads(count); }
  ~ThreadsFor() { set_threads(before_); }
  ThreadsFor(const ThreadsFor&) = delete;
  ThreadsFor& operator=(const ThreadsFor&) = delete;

 private:
  int before_;
};

// Memory on large pages where the system gives them, so that what is measured is memory and not address translation.
class Buffer {
 public:
  explicit Buffer(int64_t bytes) : bytes_(static_cast<size_t>(bytes)) {
    data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) throw internal_error("no memory to measure its bandwidth ({} bytes)", bytes);
    madvise(data_, bytes_, MADV_HUGEPAGE);
  }
  ~Buffer() { munmap(data_, bytes_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  char* data() const { return static_cast<char*>(data_); }

 private:
  size_t bytes_;
  void* data_;
};

// The smallest time that pass() takes, over at least three passes and until `seconds` have gone by.
template <class Pass>
double best_of(double seconds, Pass&& pass) {
  double best = std::numeric_limits<double>::infinity();
  const double start = seconds_now();
  for (int i = 0; i < 3 || seconds_now() - start < seconds; ++i) {
    check_stop();
    const double before = seconds_now();
    pass();
    best = std::min(best, seconds_now() - before);
  }
  return best;
}

int64_t available_bytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("MemAvailable:")) return std::stoll(line.substr(13)) * 1024;
  return std::numeric_limits<int64_t>::max();
}

}  // namespace

CeilingFunctions ceiling_functions() {
  return HONE_TABLE_IN_USE(ceiling_functions);
}

int64_t last_level_cache_bytes() {
  int64_t largest = 0;
  for (int level = 0; level < 5; ++level) {
    std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/size", level));
    int64_t size = 0;
    char unit = 0;
    if (file >> size >> unit) largest = std::max(largest, size * (unit == 'M' ? 1 << 20 : 1 << 10));
  }
  return largest;
}

double measure_read_bandwidth(int thread_count, int64_t bytes, double seconds) {
  const ThreadsFor scope(thread_count);
  const CeilingFunctions functions = ceiling_functions();
  const int64_t pages = std::max<int64_t>(1, (bytes + page - 1) / page);
  const Buffer buffer(pages * page);
  // Each thread first writes what it will read: the system places a page beside the core that touches it first.
  parallel_for(pages, 1, [&](int64_t begin, int64_t end) {
    std::fill(buffer.data() + begin * page, buffer.data() + end * page, 1);
  });
  volatile uint64_t sink = 0;
  const double best = best_of(seconds, [&] {
    parallel_for(pages, 1,
                 [&](int64_t begin, int64_t end) { sink = functions.read(buffer.data() + begin * page, end - begin); });
  });
  return static_cast<double>(pages * page) / best;
}

double measure_flops(DType type, int thread_count, double seconds) {
  const ThreadsFor scope(thread_count);
  const CeilingFunctions functions = ceiling_functions();
  const bool wide = type == DType::bf16;
  const auto loop = wide ? functions.bf16 : functions.f32;
  if (!loop) return 0;
  constexpr int64_t iterations = 200000;                             // about a millisecond
  std::vector<float> sinks(static_cast<size_t>(thread_count) * 16);  // 64 bytes a thread
  const double best = best_of(seconds, [&] {
    parallel_for(thread_count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sinks[static_cast<size_t>(i) * 16] = loop(iterations);
    });
  });
  const int64_t flops = wide ? functions.bf16_flops : functions.f32_flops;
  return static_cast<double>(flops * iterations * thread_count) / best;
}

Ceilings measure_ceilings(int thread_count, ProductRate product_rate) {
  const int64_t wanted = std::max(smallest_buffer, 4 * last_level_cache_bytes());
  Ceilings result;
  const double start = seconds_now(), cpu_start = cpu_seconds();
  result.read_bytes_per_second =
      measure_read_bandwidth(thread_count, std::min(wanted, available_bytes() / 2), seconds_each);
  result.f32_flops_per_second = measure_flops(DType::f32, thread_count, seconds_each);
  result.bf16_flops_per_second = measure_flops(DType::bf16, thread_count, seconds_each);
  result.core_share = std::min(1.0, (cpu_seconds() - cpu_start) / ((seconds_now() - start) * thread_count));
  if (product_rate) {
    result.f32_flops_per_second = std::max(result.f32_flops_per_second, product_rate(DType::f32, thread_count));
    result.bf16_flops_per_second = std::max(result.bf16_flops_per_second, product_rate(DType::bf16, thread_count));
  }
  return result;
}

}  // namespace hone::kernels
