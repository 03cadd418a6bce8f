// The codes of a cache by their rows in the table, and what they have in common.
#include "kernels/isa/attention/codes.h"

#include <utility>

#include "kernels/isa/attention/functions.h"

namespace hone::kernels::HONE_ISA {
namespace {

float largest_of(const float* row, int64_t n) {
  uint32_t largest = 0;  // as bits: a NaN is larger than infinity
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, row + i, 4);
    bits &= 0x7fffffffu;
    largest = bits > largest ? bits : largest;
  }
  float x;
  __builtin_memcpy(&x, &largest, 4);
  return x;
}

struct AllCodes {
  CodeFunctions (*of[cache_code_count])();
};

template <size_t... I>
constexpr AllCodes codes_of(std::index_sequence<I...>) {
  return {{code_functions<static_cast<CacheCode>(I + 1)>...}};
}

constexpr AllCodes all_codes = codes_of(std::make_index_sequence<cache_code_count>());

}  // namespace

CodeFunctions functions_of_kind(CacheCode code) {
  return all_codes.of[static_cast<size_t>(code) - 1]();
}

float scale_of_row(const float* row, int64_t n, float most, bf16& stored) {
  const float largest = largest_of(row, n);
  if (!(largest <= __FLT_MAX__)) {
    stored = bf16{0x7fc0};
    return 0;
  }
  narrow(largest > 1e-30f ? largest / most : 0.0f, stored);
  return largest > 1e-30f ? 1 / widen(stored) : 0;
}

void encode_rows(const CodeRows& to, const ConstHeadRows& from, int64_t count, float* room) {
  functions_of_kind(to.code).encode_rows(to, from, count, room);
}

void decode_rows(const CodeRows& from, const HeadRows& to, int64_t count, float* room) {
  functions_of_kind(from.code).decode_rows(from, to, count, room);
}

void rotate(float* row, int64_t n) {
  rotate_row(row, n);
}

}  // namespace hone::kernels::HONE_ISA
