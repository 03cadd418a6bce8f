// Loops over threads. Work is cut the same way at every run with the same number of threads, so results repeat bit for
// bit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/shared_loop.h"

namespace hone::kernels {

void set_threads(int count);  // of every later parallel loop of the process, whichever thread runs it
int threads();
// The same for libraries that ask OpenMP, whose setting is each thread's own: before they are called. Ends a scope of
// Awake.
void adopt_threads();
int thread_index();  // of the caller inside a parallel loop: 0 … threads()-1
bool in_parallel();

namespace detail {
void run(int parts, void (*body)(void*, int), void* context);
void run_each(int64_t n, void (*body)(void*, int64_t), void* context);
void run_shared(int parts, int64_t pieces, void (*body)(void*, SharedLoop&, int), void* context);

// Numbers below 1e-38 become 0 in this thread.
void flush_small_numbers();
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

// What a thread takes of a loop's n items: consecutive ones, piece after piece.
class Pieces {
 public:
  Pieces(int64_t n, int64_t pieces, detail::SharedLoop* loop, int thread)
      : n_(n), pieces_(pieces), loop_(loop), thread_(thread) {}

  // False: nothing is left.
  bool take(int64_t& begin, int64_t& end) {
    int64_t piece = 0;
    if (loop_ ? !loop_->take(thread_, piece) : taken_) return false;
    taken_ = true;
    begin = n_ * piece / pieces_;
    end = n_ * (piece + 1) / pieces_;
    return true;
  }

 private:
  int64_t n_, pieces_;
  detail::SharedLoop* loop_;  // null: one piece, of this thread
  int thread_;
  bool taken_ = false;
};

// As parallel_for, but for f(Pieces&), called once a thread, so that what it prepares for its items is prepared once.
// Each range is cut into pieces of at least `piece` items: a thread takes its own from the beginning, then those that
// others have left from their ends. So nobody waits long for a thread that another process holds up, and each reads
// what it always reads while nobody does. For items whose results do not depend on the thread.
template <class F>
void parallel_pieces(int64_t n, int64_t grain, int64_t piece, F&& f) {
  constexpr int64_t most = 16;  // of a thread
  if (n <= 0) return;
  const int64_t parts = std::min<int64_t>(threads(), (n + grain - 1) / std::max<int64_t>(grain, 1));
  if (parts <= 1 || in_parallel()) {
    Pieces all(n, 1, nullptr, 0);
    f(all);
    return;
  }
  struct Context {
    std::remove_reference_t<F>* f;
    int64_t n, pieces;
  } context{&f, n, parts * std::clamp<int64_t>(n / parts / std::max<int64_t>(piece, 1), 1, most)};
  detail::run_shared(
      static_cast<int>(parts), context.pieces,
      [](void* raw, detail::SharedLoop& loop, int thread) {
        auto& c = *static_cast<Context*>(raw);
        Pieces mine(c.n, c.pieces, &loop, thread);
        (*c.f)(mine);
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
