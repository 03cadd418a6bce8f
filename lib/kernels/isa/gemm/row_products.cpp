// Tiles of f32 products: 16 rows of the weight are turned, so that outputs lie side by side, and six rows of the other
// operand meet them at a time, 12 sums in registers over the whole contraction (fewer rows where a vector is four
// lanes). Each sum takes its terms one by one, so that it has the same bits whatever stands beside it.
#include "kernels/isa/gemm/row_products.h"

#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {
namespace {

constexpr int width = RowProducts::width, vecs = width / lanes, tallest = 12 / vecs > 6 ? 6 : 12 / vecs;

// panel[k][16] of `count` outputs from `first` on; zeros stand for those that there are not.
void fill_panel(const RowProducts& p, int64_t first, int64_t count) {
  const float* b = p.b + first * p.b_stride;
  const int64_t whole = count == width ? p.k / 16 * 16 : 0;
  for (int64_t k = 0; k < whole; k += 16)
    transpose16(reinterpret_cast<const uint32_t*>(b + k), p.b_stride, reinterpret_cast<uint32_t*>(p.panel + k * width),
                width);
  for (int64_t j = 0; j < width; ++j)
    for (int64_t k = whole; k < p.k; ++k) p.panel[k * width + j] = j < count ? b[j * p.b_stride + k] : 0;
}

template <int Rows>
void tile(const RowProducts& p, const float* panel, const float* a, float* c, int64_t count) {
  Vec sums[Rows][vecs] = {};
  for (int64_t k = 0; k < p.k; ++k, panel += width) {
    Vec columns[vecs];
#pragma GCC unroll 4
    for (int v = 0; v < vecs; ++v) columns[v] = load(panel + v * lanes);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Vec left = broadcast(a[r * p.a_stride + k]);
#pragma GCC unroll 4
      for (int v = 0; v < vecs; ++v) sums[r][v] += left * columns[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    float row[width];
#pragma GCC unroll 4
    for (int v = 0; v < vecs; ++v) store(count == width ? c + r * p.c_stride + v * lanes : row + v * lanes, sums[r][v]);
    if (count < width)
      for (int64_t j = 0; j < count; ++j) c[r * p.c_stride + j] = row[j];
  }
}

void few(const RowProducts& p, const float* panel, int64_t rows, const float* a, float* c, int64_t count) {
  switch (rows) {
    case 5:
      return tile < tallest < 5 ? 1 : 5 > (p, panel, a, c, count);
    case 4:
      return tile < tallest < 4 ? 1 : 4 > (p, panel, a, c, count);
    case 3:
      return tile<3>(p, panel, a, c, count);
    case 2:
      return tile<2>(p, panel, a, c, count);
    case 1:
      return tile<1>(p, panel, a, c, count);
    default:
      return;
  }
}

#if defined(HONE_VECTOR_AVX2)
// Few rows: what is turned goes from registers into the sums. The chain of sums of eight rows of b is slower than what
// is loaded for it, so that several run beside each other. Returns how many rows of b are done.
template <int Rows, int Groups>
int64_t directly(const RowProducts& p) {
  int64_t first = 0;
  for (; first + 8 * Groups <= p.n; first += 8 * Groups) {
    const float* b = p.b + first * p.b_stride;
    Vec sums[Rows][Groups] = {};
    int64_t k = 0;
    for (; k + 8 <= p.k; k += 8) {
#pragma GCC unroll 4
      for (int g = 0; g < Groups; ++g) {
        Vec columns[8];
        transpose8(b + 8 * g * p.b_stride + k, p.b_stride, columns);
#pragma GCC unroll 8
        for (int j = 0; j < 8; ++j)
#pragma GCC unroll 4
          for (int r = 0; r < Rows; ++r) sums[r][g] += broadcast(p.a[r * p.a_stride + k + j]) * columns[j];
      }
    }
    for (; k < p.k; ++k)
      for (int g = 0; g < Groups; ++g) {
        Vec column;
        for (int i = 0; i < 8; ++i) column[i] = b[(8 * g + i) * p.b_stride + k];
        for (int r = 0; r < Rows; ++r) sums[r][g] += broadcast(p.a[r * p.a_stride + k]) * column;
      }
    for (int r = 0; r < Rows; ++r)
      for (int g = 0; g < Groups; ++g) store(p.c + r * p.c_stride + first + 8 * g, sums[r][g]);
  }
  return first;
}

template <int Rows>
int64_t directly(const RowProducts& p) {
  // Rows of b that are whole pages long compete for the same sets of the cache.
  constexpr int groups = Rows == 1 ? 4 : 2;
  return p.b_stride % 1024 == 0 ? directly<Rows, groups / 2>(p) : directly<Rows, groups>(p);
}

int64_t directly(const RowProducts& p) {
  switch (p.m) {
    case 1:
      return directly<1>(p);
    case 2:
      return directly<2>(p);
    case 3:
      return directly<3>(p);
    case 4:
      return directly<4>(p);
    default:
      return 0;
  }
}
#else
int64_t directly(const RowProducts&) {
  return 0;
}
#endif

}  // namespace

void row_products(const RowProducts& p) {
  for (int64_t first = p.held == Held::rows ? directly(p) : 0; first < p.n; first += width) {
    const int64_t count = p.n - first < width ? p.n - first : width;
    const float* panel = p.held == Held::panels ? p.b + first * p.k : p.panel;
    if (p.held != Held::panels) fill_panel(p, first, count);
    int64_t r = 0;
    for (; r + tallest <= p.m; r += tallest)
      tile<tallest>(p, panel, p.a + r * p.a_stride, p.c + r * p.c_stride + first, count);
    few(p, panel, p.m - r, p.a + r * p.a_stride, p.c + r * p.c_stride + first, count);
  }
}

}  // namespace hone::kernels::HONE_ISA
