// Norms of queries and keys, over one fused projection.
#pragma once

#include "autograd/autograd.h"
#include "comm/communicator.h"

namespace hone::ops {

// qkv [rows, (heads + 2 * kv_heads) * head_dim]: queries, keys, values of each row. What comes out has queries and keys
// divided by the root mean square of their head and times query_gain or key_gain, [head_dim] each; values as they are.
// Where all queries and all keys are normed together, both are one head here, as wide as their gains.
// Of heads that `ranks` divide among them (null: one has all), the gradients of the gains are summed over the ranks.
Var head_norm(const Var& qkv, int64_t heads, int64_t kv_heads, Parameter& query_gain, Parameter& key_gain,
              float epsilon, const std::shared_ptr<Communicator>& ranks = nullptr);

}  // namespace hone::ops
