// The loops behind ceilings.h, compiled for each instruction set.
#pragma once

#include <cstdint>

namespace hone::kernels {

struct CeilingFunctions {
  static constexpr int64_t page = 4096;

  // The sum modulo 2^64 of the 64-bit words of `pages` pages at `data`, which is aligned to 64 bytes: as fast as memory
  // gives them.
  uint64_t (*read)(const void* data, int64_t pages);

  // Each iteration does `f32_flops` multiplications and additions in registers: x = x / 2 + 1 in as many lanes as it
  // takes. Returns the sum of the lanes, which nears f32_flops as x nears 2.
  float (*f32)(int64_t iterations);
  int64_t f32_flops;

  // The same with dot products of bf16 pairs: x = x + 1/4 + 1/4 in bf16_flops / 4 lanes, from 0. Null where the set has
  // none.
  float (*bf16)(int64_t iterations) = nullptr;
  int64_t bf16_flops = 0;
};

}  // namespace hone::kernels
