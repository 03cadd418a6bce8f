// Tiles of bf16 products: 6 rows by 64 columns of sums (of 16 with NEON) stay in registers over the whole contraction,
// 24 dot products for the 10 loads of a pair. With AVX-512 a panel is read from the second-level cache at 11 bytes a
// cycle; the rows beside it hardly matter.
#include "kernels/isa/bf16_dots.h"
#include "kernels/isa/gemm/interleave.h"
#include "kernels/isa/gemm/row_products.h"
#include "kernels/isa/gemm/table.h"
#include "kernels/isa/set_functions.h"
#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {

#if defined(HONE_BF16_DOTS)
namespace {

constexpr int vecs = 4, tile_columns = vecs * lanes;

inline void store_tile_row(float* to, const Vec* row) {
#pragma GCC unroll 4
  for (int v = 0; v < vecs; ++v) store(to + v * lanes, row[v]);
}

inline void store_tile_row(bf16* to, const Vec* row) {
#if defined(HONE_NEON_BF16)
#pragma GCC unroll 4
  for (int v = 0; v < vecs; ++v) {
    const bfloat16x4_t rounded = vcvt_bf16_f32(row[v]);
    __builtin_memcpy(static_cast<void*>(to + v * lanes), &rounded, sizeof rounded);
  }
#else
#pragma GCC unroll 2
  for (int v = 0; v < vecs; v += 2) {
    const __m512bh rounded = _mm512_cvtne2ps_pbh(row[v + 1], row[v]);
    __builtin_memcpy(static_cast<void*>(to + v * lanes), &rounded, sizeof rounded);
  }
#endif
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
    Pairs columns[vecs];
#pragma GCC unroll 4
    for (int v = 0; v < vecs; ++v) __builtin_memcpy(&columns[v], panel + 2 * v * lanes, sizeof columns[v]);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      int32_t pair;
      __builtin_memcpy(&pair, r < 3 ? upper + r * row : lower + (r - 3) * row, sizeof pair);
      const Pairs both = broadcast_pair(pair);
#pragma GCC unroll 4
      for (int v = 0; v < vecs; ++v) sums[r][v] = add_dots(sums[r][v], both, columns[v]);
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

// Of as many columns as a tile has.
void columns_product(const PanelProduct& p) {
  if (p.a_step != 4) return rows_of_tiles<4 * panel_rows, float>(p);
  p.half ? rows_of_tiles<4, bf16>(p) : rows_of_tiles<4, float>(p);
}

void product(const PanelProduct& p) {
  if constexpr (tile_columns == panel_rows) return columns_product(p);
  const int64_t size = p.half ? sizeof(bf16) : sizeof(float);
  PanelProduct part = p;
  for (int64_t first = 0; first < panel_rows; first += tile_columns) {
    part.panel = p.panel + 2 * first;
    part.c = static_cast<char*>(p.c) + first * size;
    columns_product(part);
  }
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
#if !defined(HONE_VECTOR_AVX512)
  table.rows = row_products;
  table.turn = turn_panels;
#endif
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
