// RMS norms of queries and keys with learned gains, over rows of a fused projection: queries, then keys, then what is
// left alone. They are of each head (Henry et al., arXiv 2010.04245; as in Qwen3 with gains that all heads share), or
// of all queries and of all keys together (OLMoE, arXiv 2409.02060): then both are one head, of widths of their own.
#pragma once

#include <cstdint>

#include "kernels/view.h"

namespace hone::kernels {

struct HeadNorm {
  int64_t heads = 0, kv_heads = 0;
  int64_t query_width = 0, key_width = 0;  // numbers of a head
  const float* query_gain = nullptr;       // [query_width]
  const float* key_gain = nullptr;         // [key_width]
  float epsilon = 1e-5f;

  int64_t normed() const { return heads + kv_heads; }
  int64_t width(int64_t head) const { return head < heads ? query_width : key_width; }
  int64_t first(int64_t head) const {  // its first column
    return head < heads ? head * query_width : heads * query_width + (head - heads) * key_width;
  }
};

// y = x / root mean square of its head * gain; other columns are copied. x and y: [rows, cols] T, y another array.
// `inverse` [rows, heads + kv_heads]: 1 / root mean square.
void head_norm_forward(const HeadNorm& norm, ConstView x, View y, float* inverse);

// d: dy, replaced by dx. d_query_gain [query_width] and d_key_gain [key_width] += their gradients; null: not wanted.
// Repeats bit for bit with the same number of threads.
void head_norm_backward(const HeadNorm& norm, ConstView x, const float* inverse, View d, float* d_query_gain,
                        float* d_key_gain);

}  // namespace hone::kernels
