// RMS norms of each head's queries and keys with learned gains (Henry et al., arXiv 2010.04245; as in Qwen3 with gains
// that all heads share), over rows of a fused projection: queries, then keys, then what is left alone.
#pragma once

#include <cstdint>

#include "kernels/view.h"

namespace hone::kernels {

struct HeadNorm {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  const float* query_gain = nullptr;  // [head_dim]
  const float* key_gain = nullptr;    // [head_dim]
  float epsilon = 1e-5f;

  int64_t normed() const { return heads + kv_heads; }
};

// y = x / root mean square of its head * gain; other columns are copied. x and y: [rows, cols] T, y another array.
// `inverse` [rows, heads + kv_heads]: 1 / root mean square.
void head_norm_forward(const HeadNorm& norm, ConstView x, View y, float* inverse);

// d: dy, replaced by dx. d_query_gain and d_key_gain [head_dim] += their gradients; null: not wanted. Repeats bit for bit
// with the same number of threads.
void head_norm_backward(const HeadNorm& norm, ConstView x, const float* inverse, View d, float* d_query_gain,
                        float* d_key_gain);

}  // namespace hone::kernels
