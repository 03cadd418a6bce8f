// RMSNorm and LayerNorm, fused with the residual addition before them.
#pragma once

#include "autograd/autograd.h"

namespace hone::ops {

struct Normed {
  Var residual;  // [rows, dim] f32: residual + branch
  Var y;         // [rows, dim] of `type`
};

// y = norm(residual + branch) * gain + bias. `branch` may be empty; `bias` null means none. `center` subtracts the mean
// (LayerNorm).
Normed add_norm(const Var& residual, const Var& branch, Parameter& gain, Parameter* bias, bool center, float epsilon,
                DType type);

}  // namespace hone::ops
