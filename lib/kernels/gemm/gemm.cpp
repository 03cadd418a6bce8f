#include "kernels/gemm/gemm.h"

#include <algorithm>
#include <Eigen/Core>

#include "base/cpu.h"
#include "base/integers.h"
#include "kernels/gemm/bf16.h"
#include "kernels/gemm/f32.h"
#include "kernels/gemm/onednn.h"
#include "kernels/panel.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"
#include "kernels/scratch.h"

namespace hone::kernels {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Map = Eigen::Map<Matrix, 0, Eigen::OuterStride<>>;
using ConstMap = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>;

ConstMap map(ConstView x) {
  return ConstMap(x.row<float>(0), x.rows, x.cols, Eigen::OuterStride<>(x.stride));
}

// The reference, and the fallback: Eigen in f32.
void gemm_eigen(ConstView a, bool transpose_a, ConstView b, bool transpose_b, View c, bool accumulate) {
  adopt_threads();
  const ConstMap am = map(a), bm = map(b);
  Map cm(c.row<float>(0), c.rows, c.cols, Eigen::OuterStride<>(c.stride));
  if (!accumulate) cm.setZero();
  if (transpose_a && transpose_b)
    cm.noalias() += am.transpose() * bm.transpose();
  else if (transpose_a)
    cm.noalias() += am.transpose() * bm;
  else if (transpose_b)
    cm.noalias() += am * bm.transpose();
  else
    cm.noalias() += am * bm;
}

thread_local Scratch a_memory, b_memory, c_memory;

// An f32 picture of a view: the view itself, or a converted copy held in `copy`.
ConstView as_f32(ConstView x, Scratch& copy) {
  if (x.dtype == DType::f32) return x;
  const View to = view(copy.array<float>(x.rows * x.cols), x.rows, x.cols);
  convert(x, to);
  return to;
}

// Where no instruction multiplies bf16: products in f32 of what was converted before.
void gemm_converted(ConstView a, bool transpose_a, ConstView b, bool transpose_b, View c, bool accumulate) {
  const ConstView wide_a = as_f32(a, a_memory), wide_b = as_f32(b, b_memory);
  if (c.dtype == DType::f32) return gemm(wide_a, transpose_a, wide_b, transpose_b, c, accumulate);
  const View wide_c = view(c_memory.array<float>(c.rows * c.cols), c.rows, c.cols);
  gemm(wide_a, transpose_a, wide_b, transpose_b, wide_c, false);
  convert(wide_c, c);
}

// Whether oneDNN goes first: where the processor has a tile unit. Our products in tiles (kernels/tiles/) were never
// timed beside it, and so serve programs without it.
bool onednn_first() {
  return isa() >= Isa::amx && onednn::available();
}

// With AVX-512, oneDNN 2.6 multiplies f32 at 25 to 63% of the peak where a second matrix that is not transposed has
// more columns than some 2600, and at 65 to 69% piece by piece.
constexpr int64_t widest = 2048;

bool in_pieces(ConstView a, bool transpose_b, ConstView c) {
  return c.cols > widest && a.dtype == DType::f32 && !transpose_b && isa() >= Isa::avx512 && onednn::available();
}

void gemm_in_pieces(ConstView a, bool transpose_a, ConstView b, View c, bool accumulate) {
  const int64_t width = round_up(ceil_div(c.cols, ceil_div(c.cols, widest)), panel_rows);
  for (int64_t first = 0; first < c.cols; first += width) {
    const int64_t columns = std::min(width, c.cols - first);
    gemm(a, transpose_a, columns_of(b, first, columns), false, columns_of(c, first, columns), accumulate);
  }
}

}  // namespace

void gemm(ConstView a, bool transpose_a, ConstView b, bool transpose_b, View c, bool accumulate) {
  if (c.rows == 0 || c.cols == 0) return;
  if (in_pieces(a, transpose_b, c)) return gemm_in_pieces(a, transpose_a, b, c, accumulate);
  if (onednn_first() && onednn::gemm(a, transpose_a, b, transpose_b, c, accumulate)) return;
  if (own::multiplies_rows(a, transpose_a, b, transpose_b, c, accumulate)) return own::gemm_rows(a, b, c);
  if (a.dtype == DType::bf16 && transpose_a && !transpose_b && c.dtype == DType::f32 && own::available())
    return own::gemm_gradient(a, b, c, accumulate);
  if (onednn::gemm(a, transpose_a, b, transpose_b, c, accumulate)) return;
  if (a.dtype != DType::f32) return gemm_converted(a, transpose_a, b, transpose_b, c, accumulate);
  gemm_eigen(a, transpose_a, b, transpose_b, c, accumulate);
}

void gemm_panels(ConstView a, const bf16* panels, int64_t n, int64_t k, View c) {
  if (c.rows == 0 || c.cols == 0) return;
  if (onednn_first() && onednn::gemm_panels(a, panels, n, k, c)) return;
  if (own::available()) return own::gemm_panels(a, panels, n, k, c);
  const View rows = view(b_memory.array<float>(n * k), n, k);
  unpack_panels(panels, rows);
  gemm_converted(a, false, rows, true, c, false);
}

void gemm_panels(std::span<const PanelGemm> products) {
  if (!onednn_first() && own::available()) return own::gemm_panels(products);
  for (const PanelGemm& p : products) gemm_panels(p.a, p.panels, p.n, p.k, p.c);
}

bool fast_bf16() {
  return own::available();
}

}  // namespace hone::kernels
