// Loops over threads. Work is cut the same way at every run with the same number of threads, so results repeat bit for
// bit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace hone::kernels {

void set_threads(int count);  // of every later parallel loop of the process, whichever thread runs it
int threads();
// The same for libraries that ask OpenMP, whose setting is each thread's own: before they are called.
void adopt_threads();
int thread_index();  // of the caller inside a parallel loop: 0 … threads()-1
bool in_parallel();

namespace detail {
void run(int parts, void (*body)(void*, int), void* context);
void run_each(int64_t n, void (*body)(void*, int64_t), void* context);
}  // namespace detail

// Rows a thread should at least have, where one costs about `work` simple operations: below some tens of microseconds a
// second thread costs more than it gives. Some sums are cut into parts of so many rows (rows/elementwise.cpp): another
// number here would round them differently.
inline int64_t row_grain(int64_t work) {
  return 1 + 16384 / (work + 1);
}

// Calls f(begin, end) for consecutive ranges that cover [0, n), one for each thread, each of at least `grain` items.
// f must not throw.
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& f) {
  if (n <= 0) return;
  const int64_t parts = std::min<int64_t>(threads(), (n + grain - 1) / std::max<int64_t>(grain, 1));
  if (parts <= 1 || in_parallel()) {
    f(int64_t{0}, n);
    return;
  }
  struct Context {
    std::remove_reference_t<F>* f;
    int64_t n, parts;
  } context{&f, n, parts};
  detail::run(
      static_cast<int>(parts),
      [](void* raw, int part) {
        auto& c = *static_cast<Context*>(raw);
        const int64_t begin = c.n * part / c.parts, end = c.n * (part + 1) / c.parts;
        if (begin < end) (*c.f)(begin, end);
      },
      &context);
}

// Calls f(i) for each i in [0, n), handed to threads one by one as they come free: for items of unequal cost whose
// results do not depend on the thread.
template <class F>
void parallel_each(int64_t n, F&& f) {
  detail::run_each(
      n, [](void* raw, int64_t i) { (*static_cast<std::remove_reference_t<F>*>(raw))(i); }, &f);
}

}  // namespace hone::kernels
