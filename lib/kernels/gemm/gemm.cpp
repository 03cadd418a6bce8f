#include "kernels/gemm/gemm.h"

#include <Eigen/Core>
#include <vector>

#include "base/cpu.h"
#include "kernels/gemm/bf16.h"
#include "kernels/gemm/f32.h"
#include "kernels/gemm/onednn.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"

namespace hone::kernels {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Map = Eigen::Map<Matrix, 0, Eigen::OuterStride<>>;
using ConstMap = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>;

// An f32 picture of a view: the view itself, or a converted copy held in `copy`.
ConstView as_f32(ConstView x, std::vector<float>& copy) {
  if (x.dtype == DType::f32) return x;
  copy.resize(static_cast<size_t>(x.rows * x.cols));
  const View to = view(copy.data(), x.rows, x.cols);
  convert(x, to);
  return to;
}

ConstMap map(ConstView x) {
  return ConstMap(x.row<float>(0), x.rows, x.cols, Eigen::OuterStride<>(x.stride));
}

// The reference, and the fallback: Eigen in f32.
void gemm_eigen(ConstView a, bool transpose_a, ConstView b, bool transpose_b, View c, bool accumulate) {
  adopt_threads();
  std::vector<float> a_copy, b_copy, c_copy;
  const ConstMap am = map(as_f32(a, a_copy)), bm = map(as_f32(b, b_copy));
  View target = c;
  if (c.dtype != DType::f32) {
    c_copy.resize(static_cast<size_t>(c.rows * c.cols));
    target = view(c_copy.data(), c.rows, c.cols);
  }
  Map cm(target.row<float>(0), c.rows, c.cols, Eigen::OuterStride<>(target.stride));
  if (!accumulate) cm.setZero();
  if (transpose_a && transpose_b)
    cm.noalias() += am.transpose() * bm.transpose();
  else if (transpose_a)
    cm.noalias() += am.transpose() * bm;
  else if (transpose_b)
    cm.noalias() += am * bm.transpose();
  else
    cm.noalias() += am * bm;
  if (c.dtype != DType::f32) convert(target, c);
}

// Whether oneDNN goes first: where the processor has a tile unit. Our products in tiles (kernels/tiles/) were never
// timed beside it, and so serve programs without it.
bool onednn_first() {
  return isa() >= Isa::amx && onednn::available();
}

}  // namespace

void gemm(ConstView a, bool transpose_a, ConstView b, bool transpose_b, View c, bool accumulate) {
  if (c.rows == 0 || c.cols == 0) return;
  if (onednn_first() && onednn::gemm(a, transpose_a, b, transpose_b, c, accumulate)) return;
  if (own::multiplies_rows(a, transpose_a, b, transpose_b, c, accumulate)) return own::gemm_rows(a, b, c);
  if (a.dtype == DType::bf16 && transpose_a && !transpose_b && c.dtype == DType::f32 && own::available())
    return own::gemm_gradient(a, b, c, accumulate);
  if (onednn::gemm(a, transpose_a, b, transpose_b, c, accumulate)) return;
  gemm_eigen(a, transpose_a, b, transpose_b, c, accumulate);
}

void gemm_panels(ConstView a, const bf16* panels, int64_t n, int64_t k, View c) {
  if (c.rows == 0 || c.cols == 0) return;
  if (onednn_first() && onednn::gemm_panels(a, panels, n, k, c)) return;
  if (own::available()) return own::gemm_panels(a, panels, n, k, c);
  // This path serves processors without bf16 products, where models are not kept in panels for training.
  std::vector<float> memory(static_cast<size_t>(n * k));
  const View rows = view(memory.data(), n, k);
  unpack_panels(panels, rows);
  gemm_eigen(a, false, rows, true, c, false);
}

void gemm_panels(std::span<const PanelGemm> products) {
  if (!onednn_first() && own::available()) return own::gemm_panels(products);
  for (const PanelGemm& p : products) gemm_panels(p.a, p.panels, p.n, p.k, p.c);
}

bool fast_bf16() {
  return own::available();
}

}  // namespace hone::kernels
