// RMSNorm and LayerNorm, fused with the residual addition before them.
#pragma once

#include "autograd/autograd.h"

namespace hone::ops {

struct Normed {
  Var residual;  // [rows, dim] f32: residual + branch
  Var y;         // [rows, dim] of `type`
};

// y = norm(residual + branch) * gain + bias. `branch` may be empty; `bias` null means none.
using NormFunction = Normed(const Var& residual, const Var& branch, Parameter& gain, Parameter* bias, float epsilon,
                            DType type);
NormFunction add_rms_norm;    // divides by the root of the mean square
NormFunction add_layer_norm;  // of what remains without the mean

}  // namespace hone::ops
