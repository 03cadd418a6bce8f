// Products of training in 8 bits, after SwitchBack (Wortsman et al., arXiv 2304.13013): y = x W^T and dx = dy W in
// integers, dW = dy^T x as ever. W has a scale for each output, x and dy one for each 128 columns of each row (as
// Jetfire has them by blocks, Xi et al., arXiv 2403.12422): what is far larger than the rest costs digits beside itself
// alone, so that no column has to be multiplied apart. The products are those of packed integers (packed.h), exact but
// for the addition of segments; here is how W gets there.
#pragma once

#include "kernels/packed/packed.h"

namespace hone::kernels {

// Sizes of the arrays of W [n, k] as `int8` panels: bytes, and scales.
struct Int8Sizes {
  int64_t values, scales;
};
Int8Sizes int8_sizes(int64_t n, int64_t k);

// W f32 [n, k], or [k, n] where `transposed`, to `values` and `scales` of such sizes: each output's numbers to nearest
// integers, the largest of them to 127 or little less. An output with a NaN or an infinity gives NaNs.
void pack_int8(ConstView w, bool transposed, uint8_t* values, bf16* scales);

// The matrix that lies there.
PackedMatrix int8_matrix(int64_t n, int64_t k, const uint8_t* values, const bf16* scales);

}  // namespace hone::kernels
