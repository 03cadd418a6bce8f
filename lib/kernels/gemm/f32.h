// Products of f32 rows with the f32 rows of a weight, of our own. With AVX2, oneDNN 2.6 adds up the last one to three
// of six rows in another order than the rest, so that a token's numbers depend on the tokens beside it: text by drafts,
// of batches or in chunks would then not be the text of one token at a time.
#pragma once

#include "kernels/view.h"

namespace hone::kernels::own {

bool multiplies_f32();  // whether products of f32 rows are these: at the levels below avx512

// Whether gemm_rows() is what makes c = a b^T of these: there, where nothing is transposed but b and nothing
// accumulated.
bool multiplies_rows(ConstView a, bool transpose_a, ConstView b, bool transpose_b, ConstView c, bool accumulate);

// c[m, n] = a[m, k] b[n, k]^T. A number in c depends on its row of a and its row of b alone: not on m, n or the
// threads.
void gemm_rows(ConstView a, ConstView b, View c);

// The same of b in panels of 16 outputs [n/16][k][16], the last one padded with anything.
constexpr int64_t panel_outputs = 16;
void gemm_panels(ConstView a, const float* b, View c);

}  // namespace hone::kernels::own
