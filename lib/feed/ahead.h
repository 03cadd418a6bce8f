// Sequences that are made ahead of their use, on a thread of their own.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "base/quiet_thread.h"
#include "feed/sequence.h"

namespace hone {

class SequencesAhead {
 public:
  // make(position) for position = first, first + 1, …, at most `ahead` before they are asked for; from one thread.
  SequencesAhead(std::function<std::optional<Sequence>(int64_t position)> make, int64_t first, size_t ahead);
  ~SequencesAhead();
  SequencesAhead(const SequencesAhead&) = delete;
  SequencesAhead& operator=(const SequencesAhead&) = delete;

  // The next that could be made. Throws what make() threw at its position, and Error(input) after `most_skipped`
  // positions without any.
  Sequence next(int64_t most_skipped);
  void pass(int64_t positions);                   // goes past the next so many, whatever make() gave or threw for them
  int64_t position() const { return position_; }  // of what comes next

 private:
  struct Made {
    std::optional<Sequence> sequence;
    std::exception_ptr error;
  };
  void work();
  Made take();

  std::function<std::optional<Sequence>(int64_t)> make_;
  int64_t position_, begun_;
  size_t ahead_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Made> made_;
  bool stop_ = false;
  const bool quiet_ = thread_is_quiet();
  std::thread thread_;
};

}  // namespace hone
