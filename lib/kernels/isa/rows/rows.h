// Loops of elementwise_table.h that reduce over a row: norms and cross-entropy.
#pragma once

#include "kernels/rows/elementwise.h"

namespace hone::kernels::HONE_ISA {

void norm_forward(const NormForward& a, int64_t begin, int64_t end);
void norm_backward(const NormBackward& a, int64_t begin, int64_t end);
void cross_entropy(View logits, int64_t vocabulary, const int32_t* targets, float* losses, uint8_t* correct,
                   float gradient_scale, int64_t begin, int64_t end);

}  // namespace hone::kernels::HONE_ISA
