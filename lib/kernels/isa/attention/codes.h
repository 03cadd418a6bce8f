// Rows of a cache that are codes (kernels/attention/cache_code.h): what the file of each says, their rotation, and
// where their functions are found. Which code it is is asked once an item, never inside a loop.
#pragma once

#include "kernels/isa/attention/table.h"
#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {

// What arrays of codes are made of. A code's file, codes/NAME.cpp, derives its own from it, with
//   most                            what the largest number of a row is, without the scale
//   load(row, d)                    numbers d … d + lanes - 1 of a row, d a multiple of the lanes, without the scale
//   encode(row, n, inverse, codes)  codes of row[0 … n - 1] times the scale's inverse, and of the row's padding
struct CodeByte {
  uint8_t byte;
};
template <class T>
inline constexpr bool is_code = __is_base_of(CodeByte, T);

// As in AttentionKernels.
struct CodeFunctions {
  void (*decode)(const DecodeArgs&, const DecodeItem&);
  void (*encode_rows)(const CodeRows& to, const ConstHeadRows& from, int64_t count, float* room);
  void (*decode_rows)(const CodeRows& from, const HeadRows& to, int64_t count, float* room);
};
// Each code's file specializes it, with what set_code.h makes of its code.
template <CacheCode code>
CodeFunctions code_functions();
// Those of a code of the table. Defined in codes.cpp.
CodeFunctions functions_of_kind(CacheCode code);

// The scale with which the largest of the numbers is `most`, and its inverse: 0 for a row of zeros, NaN for what is not
// finite. Defined in codes.cpp.
float scale_of_row(const float* row, int64_t n, float most, bf16& stored);

// Times a normalized Hadamard matrix, in blocks of the largest power of two that divides n.
inline void rotate_row(float* row, int64_t n) {
  const int64_t block = n & -n;
  for (int64_t half = 1; half < block; half *= 2)
    for (int64_t begin = 0; begin < n; begin += 2 * half)
#pragma omp simd
      for (int64_t i = begin; i < begin + half; ++i) {
        const float a = row[i], b = row[i + half];
        row[i] = a + b;
        row[i + half] = a - b;
      }
  const float factor = 1 / __builtin_sqrtf(static_cast<float>(block));
  for (int64_t i = 0; i < n; ++i) row[i] *= factor;
}

}  // namespace hone::kernels::HONE_ISA
