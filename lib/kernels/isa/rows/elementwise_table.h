// The functions of kernels/rows/ for one instruction set: each does rows (or elements) [begin, end) on one thread. A
// kernel with a file of its own needs no line here (isa/function.h).
#pragma once

#include "kernels/rows/divergence.h"
#include "kernels/rows/elementwise.h"
#include "kernels/rows/head_norm.h"
#include "kernels/rows/vocabulary_part.h"

namespace hone::kernels {

struct ElementwiseTable {
  void (*convert)(ConstView from, View to, int64_t begin, int64_t end);
  void (*add)(View into, ConstView from, int64_t begin, int64_t end);
  void (*add_bias)(View x, const float* bias, int64_t begin, int64_t end);
  void (*column_sums)(ConstView x, float* sums, int64_t begin, int64_t end);
  void (*column_squares)(ConstView x, float* sums, int64_t begin, int64_t end);
  double (*sum_of_squares)(const float* x, int64_t count);
  bool (*all_finite)(const float* x, int64_t count);
  void (*norm_forward)(const NormForward& a, int64_t begin, int64_t end);
  // d_gain and d_bias of `a` belong to this thread alone.
  void (*norm_backward)(const NormBackward& a, int64_t begin, int64_t end);
  void (*head_norm_forward)(const HeadNorm& norm, ConstView x, View y, float* inverses, int64_t begin, int64_t end);
  // d_query_gain and d_key_gain belong to this thread alone.
  void (*head_norm_backward)(const HeadNorm& norm, ConstView x, const float* inverses, View d, float* d_query_gain,
                             float* d_key_gain, int64_t begin, int64_t end);
  void (*swiglu_forward)(ConstView gate_up, View y, int64_t begin, int64_t end);
  void (*swiglu_backward)(ConstView gate_up, ConstView dy, View d_gate_up, int64_t begin, int64_t end);
  void (*gelu_forward)(ConstView x, View y, int64_t begin, int64_t end);
  void (*gelu_backward)(ConstView x, ConstView dy, View dx, int64_t begin, int64_t end);
  void (*gelu_erf_forward)(ConstView x, View y, int64_t begin, int64_t end);
  void (*gelu_erf_backward)(ConstView x, ConstView dy, View dx, int64_t begin, int64_t end);
  void (*dropout)(View x, float rate, uint64_t seed, int64_t begin, int64_t end);
  void (*rope)(View x, int64_t heads, int64_t head_dim, const int32_t* positions, const float* cosines,
               const float* sines, float direction, int64_t begin, int64_t end);
  void (*cross_entropy)(const CrossEntropy& a, int64_t begin, int64_t end);
  void (*sum_logits)(ConstView logits, int64_t tokens, const int32_t* targets, LogitSum* sums, int64_t begin,
                     int64_t end);
  void (*logit_gradient)(const LogitGradient& a, int64_t begin, int64_t end);
  void (*softcap)(ConstView x, View y, float cap, int64_t begin, int64_t end);
  void (*softcap_backward)(ConstView y, View d, float cap, int64_t begin, int64_t end);
  void (*divergence)(const DivergenceRows& a, int64_t begin, int64_t end);
  void (*divergence_from_top)(const DivergenceRows& a, const TopPredictions& top, int64_t begin, int64_t end);
  void (*divergence_sums)(const DivergenceRows& a, DivergenceSum* sums, int64_t begin, int64_t end);
  void (*divergence_from_sums)(const DivergenceRows& a, const DivergenceSum* sums, int64_t begin, int64_t end);
  void (*scatter_add)(ConstView rows, const int32_t* ids, float* table, int64_t dim, int64_t begin_col,
                      int64_t end_col);
  void (*adamw)(const AdamW& a, int64_t begin, int64_t end);
  // Panels [begin, end) of 64 outputs.
  void (*pack_panels)(ConstView w, bool transposed, bf16* panels, int64_t begin, int64_t end);
};

}  // namespace hone::kernels
