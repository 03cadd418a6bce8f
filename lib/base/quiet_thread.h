// A thread of several that do the same thing, one of which speaks for all.
#pragma once

namespace hone {

// While one lives, its thread says errors alone, shows no progress, and prints no result.
class QuietThread {
 public:
  explicit QuietThread(bool quiet = true);
  ~QuietThread();
  QuietThread(const QuietThread&) = delete;
  QuietThread& operator=(const QuietThread&) = delete;

 private:
  bool before_;
};

bool thread_is_quiet();

}  // namespace hone
