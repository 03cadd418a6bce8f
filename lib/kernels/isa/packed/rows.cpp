// Rows on their way into and out of the products: bf16 to f32 and back.
#include "kernels/isa/packed/functions.h"
#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {
namespace {

void widen_row(const bf16* x, int64_t n, float* out) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = widen(x[i]);
}

// To nearest, ties to even; a NaN stays one.
void narrow_row(const float* x, int64_t n, bf16* out) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) narrow(x[i], out[i]);
}

}  // namespace

void set_rows(PackedTable& table) {
  table.widen = widen_row;
  table.narrow = narrow_row;
}

}  // namespace hone::kernels::HONE_ISA
