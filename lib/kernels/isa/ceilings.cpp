// Loops that do nothing but read memory or multiply and add in registers.
#include "kernels/isa/bf16_dots.h"
#include "kernels/isa/ceilings_table.h"
#include "kernels/isa/set_functions.h"
#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {
namespace {

constexpr int width = sizeof(Vec);  // bytes of a register

typedef uint64_t Words __attribute__((vector_size(width)));

constexpr int word_lanes = width / 8;
// Registers in flight. A multiply-add takes 4 cycles and two may start in each, so that 8 would do; with two constants,
// 12 fit into the 16 registers of the smaller sets.
constexpr int sums = 12;
constexpr int streams = 8;

uint64_t read(const void* data, int64_t pages) {
  Words sum[streams] = {};
  const auto* at = static_cast<const Words*>(data);
  const Words* const end = at + pages * (CeilingFunctions::page / width);
  for (; at != end; at += streams)
#pragma GCC unroll 8
    for (int i = 0; i < streams; ++i) sum[i] += at[i];
  uint64_t total = 0;
  for (int i = 0; i < streams; ++i)
    for (int l = 0; l < word_lanes; ++l) total += sum[i][l];
  return total;
}

// Read at run time, so that the compiler can neither compute the loops below nor see that all their sums are equal.
volatile float zero = 0, half = 0.5f, one = 1;

float f32(int64_t iterations) {
  const Vec factor = broadcast(half), step = broadcast(one);
  Vec x[sums];
  for (int i = 0; i < sums; ++i) x[i] = broadcast(zero);
  for (int64_t n = 0; n < iterations; ++n)
#pragma GCC unroll 12
    for (int i = 0; i < sums; ++i) x[i] = x[i] * factor + step;
  float total = 0;
  for (int i = 0; i < sums; ++i)
    for (int l = 0; l < lanes; ++l) total += x[i][l];
  return total;
}

#if defined(HONE_BF16_DOTS)
float bf16_dot(int64_t iterations) {
  const float wide = half;  // has zeros behind the bits of its bf16
  uint32_t bits;
  __builtin_memcpy(&bits, &wide, sizeof bits);
  const Pairs factor = broadcast_pair(static_cast<int32_t>(bits | bits >> 16));
  Vec x[sums];
  for (int i = 0; i < sums; ++i) x[i] = broadcast(zero);
  for (int64_t n = 0; n < iterations; ++n)
#pragma GCC unroll 12
    for (int i = 0; i < sums; ++i) x[i] = add_dots(x[i], factor, factor);
  float total = 0;
  for (int i = 0; i < sums; ++i)
    for (int l = 0; l < lanes; ++l) total += x[i][l];
  return total;
}
#endif

}  // namespace

void set_functions(CeilingFunctions& table) {
  table = {read, f32, 2 * sums * lanes};
#if defined(HONE_BF16_DOTS)
  table.bf16 = bf16_dot;
  table.bf16_flops = 4 * sums * lanes;
#endif
}

}  // namespace hone::kernels::HONE_ISA
