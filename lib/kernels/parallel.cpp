#include "kernels/parallel.h"

#include <omp.h>

#include <atomic>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace hone::kernels {
namespace {

// The process's, while OpenMP's own setting is that of the thread which sets it; 0: OpenMP's choice.
std::atomic<int> thread_count{0};

// Numbers below 1e-38 become 0: the optimizer's moments decay into them, and they cost a hundred times as much. A
// setting of each thread, so that all that compute get it: results must not depend on which thread does.
[[gnu::always_inline]] inline void flush_small_numbers() {
#if defined(__x86_64__)
  thread_local bool done = false;
  if (done) return;
  _mm_setcsr(_mm_getcsr() | 0x8040);
  done = true;
#elif defined(__aarch64__)
  thread_local bool done = false;
  if (done) return;
  uint64_t control;
  asm volatile("mrs %0, fpcr" : "=r"(control));
  asm volatile("msr fpcr, %0" : : "r"(control | uint64_t{1} << 24));
  done = true;
#endif
}

}  // namespace

void set_threads(int count) {
  thread_count.store(count, std::memory_order_relaxed);
  adopt_threads();
}

int threads() {
  flush_small_numbers();
  const int count = thread_count.load(std::memory_order_relaxed);
  return count > 0 ? count : omp_get_max_threads();
}

void adopt_threads() {
  if (const int count = threads(); count != omp_get_max_threads()) omp_set_num_threads(count);
}

int thread_index() {
  return omp_get_thread_num();
}

bool in_parallel() {
  return omp_in_parallel() != 0;
}

namespace detail {

void run(int parts, void (*body)(void*, int), void* context) {
#pragma omp parallel num_threads(parts)
  {
    flush_small_numbers();
    body(context, omp_get_thread_num());
  }
}

void run_each(int64_t n, void (*body)(void*, int64_t), void* context) {
  const int count = threads();
  if (n <= 1 || omp_in_parallel() != 0) {
    for (int64_t i = 0; i < n; ++i) body(context, i);
    return;
  }
  // Taken from a counter: a loop that OpenMP divides waits once more for all, at its own end.
  std::atomic<int64_t> next{0};
#pragma omp parallel num_threads(count)
  {
    flush_small_numbers();
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) body(context, i);
  }
}

}  // namespace detail
}  // namespace hone::kernels
