// Threads that stay awake between the short loops of a step of few rows.
#pragma once

#include <cstdint>

#include "kernels/shared_loop.h"

namespace hone::kernels {

// Rows of a call up to which its loops may be so short that waiting for threads is a part of their time.
inline constexpr int64_t awake_rows = 256;

// While one lives, parallel loops of the thread that made it are shared with threads of our own instead of OpenMP's.
// They look for the next loop for some microseconds before they sleep, and no loop waits for one that does not come:
// OpenMP's waits for all of its threads, also for those that cannot run because of another process.
//
// One thread of the process leads at a time. Others, calls of more than awake_rows rows, and programs whose OpenMP is
// told to bind its threads to cores or to keep them awake itself, keep OpenMP's loops; so does the rest of a scope in
// which a library has used OpenMP (adopt_threads()), as two teams would take the cores from each other. Results are the
// same either way.
class Awake {
 public:
  explicit Awake(int64_t rows);
  ~Awake();
  Awake(const Awake&) = delete;
  Awake& operator=(const Awake&) = delete;

  bool leads() const;  // whether this one's loops are shared so

 private:
  bool began_ = false;
};

// Whether OpenMP is told to bind its threads to cores, and with them all that other threads of this process start.
bool threads_are_bound();

namespace detail {

// Calls body(context, loop, i) once on each of up to `count` threads, i from 0 to count-1, until all pieces are done.
// False: the caller does not lead, and nothing was done.
bool run_awake(int count, int owners, int64_t pieces, void (*body)(void*, SharedLoop&, int), void* context);

int awake_index();  // of the caller inside such a loop; -1 outside
void end_awake();   // of the caller, if it leads

}  // namespace detail
}  // namespace hone::kernels
