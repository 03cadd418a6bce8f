// Attention over one fused projection.
#pragma once

#include <memory>
#include <vector>

#include "autograd/autograd.h"
#include "kernels/attention/attention.h"

namespace hone::ops {

// Sequences of one length, whose rows lie together from `first_row` on: dims.batch of dims.queries = dims.keys tokens.
struct AttentionPart {
  kernels::AttentionDims dims;
  int64_t first_row = 0;
  std::shared_ptr<const kernels::BlockPlan> plan;

  Tensor rows_of(const Tensor& all) const { return all.rows(first_row, dims.batch * dims.queries); }
};

// qkv [rows, (heads + 2 * kv_heads) * head_dim]: queries, keys, values of each row -> [rows, heads * head_dim]. The
// parts cover all rows. The gradients of queries, keys and values are written into one array of qkv's layout.
// backward_seconds, where not null, gets the time of the backward added.
Var attention(const Var& qkv, std::vector<AttentionPart> parts, double* backward_seconds = nullptr);

// Where the parts of a fused projection lie.
struct QkvRows {
  kernels::HeadRows q, k, v;
  static QkvRows of(const Tensor& qkv, const kernels::AttentionDims& dims);
};
// Of [batch * length, heads * head_dim].
kernels::HeadRows head_rows(const Tensor& rows, const kernels::AttentionDims& dims);

}  // namespace hone::ops
