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

// The same of b in panels of 4 outputs by 8 terms [n/4][k/8][4][8], padded with zeros where terms and with anything
// where outputs are missing.
constexpr int64_t panel_outputs = 4, panel_terms = 8;
void gemm_panels(ConstView a, const float* b, View c);

// 16 outputs as four such panels, from columns[k padded to 8][16]: on the caller's thread.
constexpr int64_t column_outputs = 16;
void turn_to_panels(const float* columns, int64_t k, float* panels);

}  // namespace hone::kernels::own
