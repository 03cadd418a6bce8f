#include "feed/ahead.h"

#include "base/error.h"
#include "base/quiet_thread.h"
#include "base/spelling.h"

namespace hone {

SequencesAhead::SequencesAhead(std::function<std::optional<Sequence>(int64_t)> make, int64_t first, size_t ahead)
    : make_(std::move(make)), position_(first), begun_(first), ahead_(ahead), thread_([this] { work(); }) {}

SequencesAhead::~SequencesAhead() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void SequencesAhead::work() {
  const QuietThread as_its_owner(quiet_);
  while (true) {
    int64_t position = 0;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stop_ || made_.size() < ahead_; });
      if (stop_) return;
      position = begun_++;
    }
    Made made;
    try {
      made.sequence = make_(position);
    } catch (...) {
      made.error = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    made_.push_back(std::move(made));
    changed_.notify_all();
  }
}

SequencesAhead::Made SequencesAhead::take() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !made_.empty(); });
  Made made = std::move(made_.front());
  made_.pop_front();
  ++position_;
  changed_.notify_all();
  return made;
}

void SequencesAhead::pass(int64_t positions) {
  for (int64_t i = 0; i < positions; ++i) take();
}

Sequence SequencesAhead::next(int64_t most_skipped) {
  for (int64_t skipped = 0; skipped <= most_skipped; ++skipped) {
    Made made = take();
    if (made.error) std::rethrow_exception(made.error);
    if (made.sequence) return std::move(*made.sequence);
  }
  throw input_error("none of {} can be read", counted(most_skipped, "example"));
}

}  // namespace hone
