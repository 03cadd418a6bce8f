#include "kernels/rows/divergence.h"

#include "kernels/isa/kernel_set.h"
#include "kernels/parallel.h"

namespace hone::kernels {

void divergence(const DivergenceRows& a) {
  const ElementwiseTable& t = kernel_set().elementwise;
  parallel_for(a.logits.rows, row_grain(8 * a.logits.cols), [&](int64_t b, int64_t e) { t.divergence(a, b, e); });
}

void divergence_from_top(const DivergenceRows& a, const TopPredictions& top) {
  const ElementwiseTable& t = kernel_set().elementwise;
  parallel_for(a.logits.rows, row_grain(8 * a.logits.cols),
               [&](int64_t b, int64_t e) { t.divergence_from_top(a, top, b, e); });
}

void divergence_sums(const DivergenceRows& a, DivergenceSum* sums) {
  const ElementwiseTable& t = kernel_set().elementwise;
  parallel_for(a.logits.rows, row_grain(4 * a.logits.cols),
               [&](int64_t b, int64_t e) { t.divergence_sums(a, sums, b, e); });
}

void divergence_from_sums(const DivergenceRows& a, const DivergenceSum* sums) {
  const ElementwiseTable& t = kernel_set().elementwise;
  parallel_for(a.logits.rows, row_grain(4 * a.logits.cols),
               [&](int64_t b, int64_t e) { t.divergence_from_sums(a, sums, b, e); });
}

}  // namespace hone::kernels
