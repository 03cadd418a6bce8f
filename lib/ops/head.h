// The head of a model: hidden states to logits.
#pragma once

#include <memory>

#include "weights/weight.h"

namespace hone::ops {

struct Head {
  std::shared_ptr<Weight> weight;  // [padded vocabulary, dim]
  int64_t vocabulary = 0;          // rows of it that are tokens
  float softcap = 0;               // C: logits are C tanh(x / C) (Gemma 2, arXiv 2408.00118, section 2); 0: they are x

  // rows [n, dim] -> logits [n, padded vocabulary], of rows' type or f32.
  void logits(kernels::ConstView rows, kernels::View logits) const;
};

}  // namespace hone::ops
