// How a thread waits for another of its process: it looks for a short while, and then sleeps until it is woken.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace hone {

// How long to look where each thread has a processor of its own, and where not.
inline constexpr std::chrono::microseconds patience(50), impatience(2);

// Up to so many threads have a processor each; what a control group grants is not for waiting.
int processors();

// Looks for `done()` for so long. Whether it came.
template <class F>
bool spin(std::chrono::microseconds limit, F&& done) {
  using std::chrono::steady_clock;
  constexpr int looks = 32;  // between two looks at the clock
  for (steady_clock::time_point end;;) {
    for (int i = 0; i < looks; ++i) {
      if (done()) return true;
#if defined(__x86_64__)
      _mm_pause();
#elif defined(__aarch64__)
      asm volatile("yield");
#endif
    }
    const auto now = steady_clock::now();
    if (end == steady_clock::time_point())
      end = now + limit;
    else if (now >= end)
      return false;
  }
}

// Where one thread sleeps, on a cache line of its own.
struct alignas(64) Bed {
  std::atomic<uint32_t> asleep{0};

  // Until wake(), unless it is `ready()`. Both sides write, then read what the other wrote, in one order for all: who
  // makes it ready sees the sleeper, or the sleeper sees that it is.
  template <class F>
  void sleep(F&& ready) {
    asleep.store(1, std::memory_order_seq_cst);
    if (ready())
      asleep.store(0, std::memory_order_relaxed);
    else
      asleep.wait(1, std::memory_order_acquire);
  }
  void wake() {
    if (asleep.load(std::memory_order_seq_cst) && asleep.exchange(0, std::memory_order_acq_rel)) asleep.notify_one();
  }
};

}  // namespace hone
