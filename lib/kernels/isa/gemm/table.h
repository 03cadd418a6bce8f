// The loops of kernels/gemm/bf16.h for one instruction set: each runs on one thread.
#pragma once

#include <cstdint>

#include "kernels/view.h"

namespace hone::kernels {

// c[rows][64] (+)= a[rows][2 * pairs] times one panel. Word p of row r of a, two bf16 that are neighbours in the
// contraction, lies a_row * r + a_step * p bytes after a. a_step is 4 (a holds rows) or 256 (a is a panel itself, and
// its outputs are the rows).
struct PanelProduct {
  const char* a;
  int64_t a_row, a_step;
  int64_t rows, pairs;
  const bf16* panel;  // [pairs][64][2]
  void* c;            // f32; or bf16, where the whole contraction is in one call
  int64_t c_stride;   // elements
  bool accumulate;    // f32 only
  bool half;          // c is bf16
};

// How the other operand of a product of f32 rows lies in memory: b [n, k], or panels [n/4][k/8][4][8]; those are
// padded, with zeros where terms and with anything where outputs are missing.
enum class Held : uint8_t { rows, panels };

// c[m, n] = a[m, k] times the other operand; all f32, strides in elements. A sum depends on what it is the sum of
// alone.
struct RowProducts {
  static constexpr int outputs = 4;    // of a panel
  static constexpr int terms = 8;      // of a sum, that lie together in a panel
  static constexpr int expanded = 16;  // outputs of the columns that turn() takes
  static constexpr int64_t deepest =
      1024;  // terms that meet all rows of a: 16 KB of a panel, half of a first-level cache

  const float* a;
  int64_t a_stride, m;
  const float* b;
  int64_t b_stride, n;
  int64_t k;
  float* c;
  int64_t c_stride;
  float* room;  // of room_for() elements, 64-byte aligned
  Held held;

  static constexpr int64_t room_for(int64_t m, int64_t k) {
    return m * ((k + terms - 1) / terms * terms) + outputs * deepest + m * outputs * terms;
  }
};

struct GemmTable {
  void (*product)(const PanelProduct& product) = nullptr;  // null: the set has no bf16 dot product
  // Rows 2 * begin … 2 * end - 1 of x as pairs [begin, end) of panels [pair][64][2], `panel_words` words apart; zeros
  // beyond x.
  void (*interleave)(ConstView x, int64_t begin, int64_t end, uint32_t* panels, int64_t panel_words) = nullptr;
  // Both null at avx512 and above, where f32 products are oneDNN's.
  void (*rows)(const RowProducts& products) = nullptr;
  // columns[8 * groups][16] as four panels of f32 products.
  void (*turn)(const float* columns, int64_t groups, float* panels) = nullptr;
};

}  // namespace hone::kernels
