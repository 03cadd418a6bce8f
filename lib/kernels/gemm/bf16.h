// Dense bf16 products of our own, for processors with AVX-512 BF16; with AMX, whose tile unit (kernels/tiles/) then
// multiplies, where oneDNN is not there. oneDNN 2.6 is as fast without AMX where one operand lies in panels, but
// compiles a kernel for each new number of rows, which prompts and the experts of a mixture change all the time; and it
// is up to a fifth slower for the gradients of weights, whose operands have to be interleaved first. Blocking after
// Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008).
#pragma once

#include <span>

#include "kernels/gemm/gemm.h"

namespace hone::kernels::own {

// Whether these products run at the level isa(). The sums of an element depend on the sizes of the contraction alone,
// not on the number of rows or threads.
bool available();

// As kernels::gemm_panels; none is empty.
void gemm_panels(ConstView a, const bf16* panels, int64_t n, int64_t k, View c);
void gemm_panels(std::span<const PanelGemm> products);

// c[m, n] = a^T b (+ c) for bf16 a [k, m] and b [k, n] and f32 c: the gradient of a weight.
void gemm_gradient(ConstView a, ConstView b, View c, bool accumulate);

}  // namespace hone::kernels::own
