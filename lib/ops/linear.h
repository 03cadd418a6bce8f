// Products with a weight: linear layers and embeddings.
#pragma once

#include <optional>
#include <span>

#include "autograd/autograd.h"
#include "weights/weight.h"

namespace hone::ops {

// Products of a linear layer's output and of the gradient of its input in 8 bits (kernels/gemm/int8.h), where the form
// of its weight trains: gradients are rounded by chance, drawn from this. The gradient of the weight is computed as
// ever.
struct EightBits {
  uint64_t seed;
};

// y[m, rows] = x[m, cols] W^T + bias; y has the type of x. `bias` may be null. With `unread` y is a shape
// alone and the product is left out: for a second run in the backward pass, where only gradients flow through y.
Var linear(const Var& x, const std::shared_ptr<Weight>& weight, Parameter* bias = nullptr, bool unread = false,
           std::optional<EightBits> eight_bits = {});

// dx[m, cols] = dy[m, rows] W, the way that the layer's products are computed.
void input_gradient(const Weight& weight, kernels::ConstView dy, kernels::View dx,
                    const std::optional<EightBits>& eight_bits);

// residual + branch in the type of the first: in f32 as norms (norm.h) add them, bit for bit. Where the branch has a
// shape alone (linear() with `unread`), so has the sum.
Var sum(const Var& residual, const Var& branch);

// out[i] = row ids[i] of the weight, f32 [ids, cols]; plus row positions[i] of `position_table` where given. Ids must
// be in range.
Var embedding(std::span<const int32_t> ids, const std::shared_ptr<Weight>& weight,
              std::span<const int32_t> positions = {}, Parameter* position_table = nullptr);

}  // namespace hone::ops
