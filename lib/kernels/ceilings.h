// What this machine can do at most, measured: bytes read from memory and multiply-adds a second. Every speed that a
// report gives as a fraction is a fraction of these.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace hone::kernels {

struct Ceilings {
  double read_bytes_per_second = 0;  // every thread reads its own part of a buffer that no cache holds
  double f32_flops_per_second = 0;   // multiplications and additions of f32 products
  double bf16_flops_per_second = 0;  // of bf16 products with f32 sums; 0 where isa() has no instruction for them
  double core_share = 1;  // of the time measured, the part in which every thread had a core: below 1 others had them
};

// The rate in flop/s that the library's own large matrix product reaches with so many threads, or 0 for a type it has
// no fast product for. The matrix unit of some processors (AMX) is out of reach of a loop in registers; the larger of
// both rates is the ceiling.
using ProductRate = double (*)(DType type, int threads);

// Takes about two seconds and up to 512 MB, or four times the last-level cache. Best of several passes, because what
// disturbs a pass only ever slows it down.
Ceilings measure_ceilings(int threads, ProductRate product_rate = nullptr);

// Parts of the above. `bytes` is rounded up to whole pages.
double measure_read_bandwidth(int threads, int64_t bytes, double seconds);
double measure_flops(DType type, int threads, double seconds);  // f32 or bf16; 0 where isa() has no instruction for it

int64_t last_level_cache_bytes();  // 0 if the system does not say

}  // namespace hone::kernels
