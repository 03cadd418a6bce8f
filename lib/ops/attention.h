// Attention over one fused projection.
#pragma once

#include <memory>

#include "autograd/autograd.h"
#include "kernels/attention/attention.h"

namespace hone::ops {

// qkv [batch * length, (heads + 2 * kv_heads) * head_dim]: queries, keys, values of each row -> [batch * length, heads
// * head_dim]. The gradients of queries, keys and values are written into one array of qkv's layout. backward_seconds,
// where not null, gets the time of the backward added.
Var attention(const Var& qkv, const kernels::AttentionDims& dims, std::shared_ptr<const kernels::BlockPlan> plan,
              double* backward_seconds = nullptr);

// Where the parts of a fused projection lie.
struct QkvRows {
  kernels::HeadRows q, k, v;
  static QkvRows of(const Tensor& qkv, const kernels::AttentionDims& dims);
};
kernels::HeadRows head_rows(const Tensor& rows,
                            const kernels::AttentionDims& dims);  // of [batch * length, heads * head_dim]

}  // namespace hone::ops
