// Running a test at every instruction set.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "support/turns.h"

namespace hone::test {

// Every instruction set of this machine. With the sanitizers avx512 is not compiled (lib/kernels/isa.cmake).
inline std::vector<Isa> isa_levels_tested() {
  std::vector<Isa> levels = isa_levels();
  if (sanitized) std::erase(levels, Isa::avx512);
  return levels;
}

// Runs f once for every instruction set of this machine, then restores the one in use.
inline void at_every_isa(const std::function<void()>& f) {
  const Isa before = isa();
  for (const Isa level : isa_levels_tested()) {
    CAPTURE(std::string(name_of(level)));
    set_isa(level);
    f();
  }
  set_isa(before);
}

}  // namespace hone::test
