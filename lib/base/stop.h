// SIGINT, SIGTERM and SIGHUP as a request that long work looks at between its steps.
#pragma once

#include <stdexcept>

namespace hone {

// Thrown through long work that has nothing to save. Not an Error: what adds words to errors, or goes on after them,
// must let it pass.
class Stopped : public std::runtime_error {
 public:
  explicit Stopped(int signal);
  int signal() const { return signal_; }
  int exit_status() const { return 128 + signal_; }

 private:
  int signal_;
};

// A second signal ends the process at once. SIGHUP stays ignored where it is, as under nohup.
void install_stop_handlers();

int stop_signal();   // the signal received, or 0: for work that saves before it ends
void check_stop();   // throws Stopped once a signal was received. Never call it inside a parallel loop: throw after it
bool stop_wanted();  // whether check_stop() would throw: for parallel loops, which then skip what is left

// Waits until a pipe can be read (or its other end is closed); false when a stop is wanted first.
bool wait_to_read(int fd);

void raise_stop(int signal);  // for tests

// While one lives, check_stop() does not throw: around work with something to save, which asks stop_signal() itself.
class StopLater {
 public:
  StopLater();
  ~StopLater();
  StopLater(const StopLater&) = delete;
  StopLater& operator=(const StopLater&) = delete;
};

}  // namespace hone
