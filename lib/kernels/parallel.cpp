#include "kernels/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "kernels/awake.h"

namespace hone::kernels {
namespace {

// The process's, while OpenMP's own setting is that of the thread which sets it; 0: OpenMP's choice.
std::atomic<int> thread_count{0};

}  // namespace

void set_threads(int count) {
  thread_count.store(count, std::memory_order_relaxed);
  adopt_threads();
}

int threads() {
  detail::flush_small_numbers();
  const int count = thread_count.load(std::memory_order_relaxed);
  return count > 0 ? count : omp_get_max_threads();
}

void adopt_threads() {
  detail::end_awake();
  if (const int count = threads(); count != omp_get_max_threads()) omp_set_num_threads(count);
}

int thread_index() {
  const int awake = detail::awake_index();
  return awake >= 0 ? awake : omp_get_thread_num();
}

bool in_parallel() {
  return detail::awake_index() >= 0 || omp_in_parallel() != 0;
}

namespace detail {

// The optimizer's moments decay into them, and they cost a hundred times as much. A setting of each thread, so that all
// that compute get it: results must not depend on which thread does.
void flush_small_numbers() {
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

namespace {

// A body that wants one number at a time.
template <class Number>
struct Numbered {
  void (*body)(void*, Number);
  void* context;

  static void run(void* raw, SharedLoop& loop, int thread) {
    const auto& numbered = *static_cast<Numbered*>(raw);
    for (int64_t i; loop.take(thread, i);) numbered.body(numbered.context, static_cast<Number>(i));
  }
};

}  // namespace

void run_shared(int parts, int64_t pieces, void (*body)(void*, SharedLoop&, int), void* context) {
  if (run_awake(parts, parts, pieces, body, context)) return;
  thread_local SharedLoop kept;
  SharedLoop& loop = kept;  // of this thread, whoever takes
  loop.cut(pieces, parts);
#pragma omp parallel num_threads(parts)
  {
    flush_small_numbers();
    body(context, loop, omp_get_thread_num());
  }
}

void run(int parts, void (*body)(void*, int), void* context) {
  Numbered<int> numbered{body, context};
  if (run_awake(parts, parts, parts, Numbered<int>::run, &numbered)) return;
#pragma omp parallel num_threads(parts)
  {
    flush_small_numbers();
    // Fewer threads where OpenMP is told to give no more (OMP_THREAD_LIMIT, OMP_DYNAMIC).
    for (int part = omp_get_thread_num(); part < parts; part += omp_get_num_threads()) body(context, part);
  }
}

void run_each(int64_t n, void (*body)(void*, int64_t), void* context) {
  const int count = threads();
  if (n <= 1 || in_parallel()) {
    for (int64_t i = 0; i < n; ++i) body(context, i);
    return;
  }
  Numbered<int64_t> numbered{body, context};
  if (run_awake(static_cast<int>(std::min<int64_t>(count, n)), 1, n, Numbered<int64_t>::run, &numbered)) return;
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
