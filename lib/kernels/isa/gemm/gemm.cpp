// Tiles of bf16 products: 6 rows by 64 columns of sums stay in registers over the whole contraction, 24 dot products
// for the 10 loads of a pair. A panel is read from the second-level cache at 11 bytes a cycle; the rows beside it
// hardly matter.
#include "kernels/isa/gemm/interleave.h"
#include "kernels/isa/gemm/row_products.h"
#include "kernels/isa/gemm/table.h"
#include "kernels/isa/set_functions.h"
#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {

#if defined(__AVX512BF16__)
namespace {

constexpr int vecs = panel_rows / lanes;

inline void store_tile_row(float* to, const Vec* row) {
#pragma GCC unroll 4
  for (int v = 0; v < vecs; ++v) store(to + v * lanes, row[v]);
}

inline void store_tile_row(bf16* to, const Vec* row) {
#pragma GCC unroll 2
  for (int v = 0; v < vecs; v += 2) {
    const __m512bh rounded = _mm512_cvtne2ps_pbh(row[v + 1], row[v]);
    __builtin_memcpy(static_cast<void*>(to + v * lanes), &rounded, sizeof rounded);
  }
}

template <int Rows, int64_t Step, class T>
void tile(const PanelProduct& p, const char* a, T* c) {
  Vec sums[Rows][vecs];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < vecs; ++v) {
      sums[r][v] = Vec{};
      if constexpr (sizeof(T) == sizeof(float))
        if (p.accumulate) sums[r][v] = load(c + r * p.c_stride + v * lanes);
    }
  const bf16* panel = p.panel;
  const int64_t row = p.a_row;
  // Two base addresses, so that six rows are reached by scaled indices of one register.
  const char* upper = a;
  const char* lower = a + 3 * row;
  for (int64_t k = 0; k < p.pairs; ++k, upper += Step, lower += Step, panel += 2 * panel_rows) {
    __m512bh columns[vecs];
#pragma GCC unroll 4
    for (int v = 0; v < vecs; ++v) __builtin_memcpy(&columns[v], panel + 2 * v * lanes, sizeof columns[v]);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      int32_t pair;
      __builtin_memcpy(&pair, r < 3 ? upper + r * row : lower + (r - 3) * row, sizeof pair);
      const auto broadcast_pair = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
      for (int v = 0; v < vecs; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], broadcast_pair, columns[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) store_tile_row(c + r * p.c_stride, sums[r]);
}

template <int64_t Step, class T>
void rows_of_tiles(const PanelProduct& p) {
  const char* a = p.a;
  T* c = static_cast<T*>(p.c);
  int64_t rows = p.rows;
  for (; rows >= 6; rows -= 6, a += 6 * p.a_row, c += 6 * p.c_stride) tile<6, Step>(p, a, c);
  switch (rows) {
    case 5:
      return tile<5, Step>(p, a, c);
    case 4:
      return tile<4, Step>(p, a, c);
    case 3:
      return tile<3, Step>(p, a, c);
    case 2:
      return tile<2, Step>(p, a, c);
    case 1:
      return tile<1, Step>(p, a, c);
    default:
      return;
  }
}

void product(const PanelProduct& p) {
  if (p.a_step != 4) return rows_of_tiles<4 * panel_rows, float>(p);
  p.half ? rows_of_tiles<4, bf16>(p) : rows_of_tiles<4, float>(p);
}

void interleave(ConstView x, int64_t begin, int64_t end, uint32_t* panels, int64_t panel_words) {
  for (int64_t pair = begin; pair < end; ++pair) {
    uint32_t* out = panels + pair * panel_rows;
    int64_t first = 0;
    for (; first + panel_rows <= x.cols; first += panel_rows, out += panel_words)
      interleave_pair<bf16>(x, pair, first, panel_rows, out);
    if (first < x.cols) interleave_pair<bf16>(x, pair, first, x.cols - first, out);
  }
}

}  // namespace

void set_functions(GemmTable& table) {
  table = {product, interleave};
}
#elif defined(HONE_VECTOR_AVX512)
void set_functions(GemmTable&) {}
#else
void set_functions(GemmTable& table) {
  table.rows = row_products;
  table.turn = turn_panels;
}
#endif

}  // namespace hone::kernels::HONE_ISA
