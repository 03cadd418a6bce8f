// Dense matrix products: oneDNN where it was found at build time and the processor is at least avx2, our own bf16 loops
// where they are faster or oneDNN is missing, Eigen elsewhere.
#pragma once

#include <span>

#include "kernels/view.h"

namespace hone::kernels {

// c[m, n] = a b (+ c if `accumulate`), where a is [m, k], or [k, m] if `transpose_a`, and b is [k, n], or [n, k] if
// `transpose_b`. a and b have the same type; c is f32 or that type; accumulating needs an f32 c.
void gemm(ConstView a, bool transpose_a, ConstView b, bool transpose_b, View c, bool accumulate = false);

// c[m, n] = a[m, k] W^T for W [n, k] in the panels of pack_panels(): a bf16, c bf16 or f32.
void gemm_panels(ConstView a, const bf16* panels, int64_t n, int64_t k, View c);

// Several of them, none empty, each bit for bit as alone; where they are our own, in one loop over the threads.
struct PanelGemm {
  ConstView a;
  const bf16* panels;
  int64_t n, k;
  View c;
};
void gemm_panels(std::span<const PanelGemm> products);

// Whether bf16 products run at more than the speed of f32 ones: decides the default precision of training.
bool fast_bf16();

// The type of activations that is fastest here: bf16 where products in it are, else f32.
inline DType default_type() {
  return fast_bf16() ? DType::bf16 : DType::f32;
}

}  // namespace hone::kernels
