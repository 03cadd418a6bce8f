// Loops of elementwise_table.h with files of their own: norms, cross-entropy, divergence.
#pragma once

#include "kernels/rows/divergence.h"
#include "kernels/rows/elementwise.h"
#include "kernels/rows/head_norm.h"
#include "kernels/rows/vocabulary_part.h"

namespace hone::kernels::HONE_ISA {

void norm_forward(const NormForward& a, int64_t begin, int64_t end);
void norm_backward(const NormBackward& a, int64_t begin, int64_t end);
void cross_entropy(const CrossEntropy& a, int64_t begin, int64_t end);
void head_norm_forward(const HeadNorm& norm, ConstView x, View y, float* inverses, int64_t begin, int64_t end);
void head_norm_backward(const HeadNorm& norm, ConstView x, const float* inverses, View d, float* d_query_gain,
                        float* d_key_gain, int64_t begin, int64_t end);
void sum_logits(ConstView logits, int64_t tokens, const int32_t* targets, LogitSum* sums, int64_t begin, int64_t end);
void logit_gradient(const LogitGradient& a, int64_t begin, int64_t end);
void divergence(const DivergenceRows& a, int64_t begin, int64_t end);
void divergence_from_top(const DivergenceRows& a, const TopPredictions& top, int64_t begin, int64_t end);
void divergence_sums(const DivergenceRows& a, DivergenceSum* sums, int64_t begin, int64_t end);
void divergence_from_sums(const DivergenceRows& a, const DivergenceSum* sums, int64_t begin, int64_t end);

}  // namespace hone::kernels::HONE_ISA
