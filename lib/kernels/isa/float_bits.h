// The bits of a float, and back. Included only by files that are compiled for each instruction set: to_float() of
// base/dtype.h is written with a function of the standard library, which they leave alone (isa.cmake).
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace hone::kernels::HONE_ISA {

[[gnu::always_inline]] inline float as_float(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}
[[gnu::always_inline]] inline float as_float(bf16 x) {
  return as_float(static_cast<uint32_t>(x.bits) << 16);
}
[[gnu::always_inline]] inline uint32_t bits_of(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, sizeof u);
  return u;
}

}  // namespace hone::kernels::HONE_ISA
