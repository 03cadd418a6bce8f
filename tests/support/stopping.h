// Work that is asked to stop.
#pragma once

#include "base/stop.h"

namespace hone::test {

// A signal has come while one lives.
struct Stopping {
  Stopping() { raise_stop(15); }
  ~Stopping() { raise_stop(0); }
  Stopping(const Stopping&) = delete;
  Stopping& operator=(const Stopping&) = delete;
};

}  // namespace hone::test
