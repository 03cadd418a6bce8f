// Time as measurements need it: never set back, in seconds.
#pragma once

#include <chrono>

namespace hone {

// Seconds since some fixed moment, from a clock that only goes forward.
inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Stopwatch {
 public:
  Stopwatch() : start_(seconds_now()) {}
  double seconds() const { return seconds_now() - start_; }
  double milliseconds() const { return seconds() * 1e3; }

  // Seconds since the start or the last lap, which begins the next one.
  double lap() {
    const double now = seconds_now(), result = now - start_;
    start_ = now;
    return result;
  }

 private:
  double start_;
};

// Adds the seconds until the end of its scope to `*total`, where there is one.
class SecondsInto {
 public:
  explicit SecondsInto(double* total) : total_(total), start_(total ? seconds_now() : 0) {}
  ~SecondsInto() {
    if (total_) *total_ += seconds_now() - start_;
  }
  SecondsInto(const SecondsInto&) = delete;
  SecondsInto& operator=(const SecondsInto&) = delete;

 private:
  double* total_;
  double start_;
};

}  // namespace hone
