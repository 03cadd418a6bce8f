// Running a test at every instruction set.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>

#include "base/cpu.h"

namespace hone::test {

// Runs f once for every instruction set of this machine, then restores the one in use.
inline void at_every_isa(const std::function<void()>& f) {
  const Isa before = isa();
  for (const Isa level : isa_levels()) {
    CAPTURE(std::string(name_of(level)));
    set_isa(level);
    f();
  }
  set_isa(before);
}

}  // namespace hone::test
