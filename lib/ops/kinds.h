// Rows of different kinds with gains of their own (Mixture of Transformers, arXiv 2411.04996, section 2).
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/autograd.h"

namespace hone::ops {

// y = x * gain + bias, both those of the row's kind. x [rows, dim] of f32 or bf16, as y; kinds [rows]: places in `gains`;
// gains and biases [dim] each, `biases` as many or none.
Var gain_by_kind(const Var& x, std::vector<int32_t> kinds, std::vector<Parameter*> gains,
                 std::vector<Parameter*> biases = {});

}  // namespace hone::ops
