// The head of a model: hidden states to logits.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "weights/weight.h"

namespace hone::ops {

struct Head {
  std::shared_ptr<Weight> weight;  // [padded vocabulary, dim]
  int64_t vocabulary = 0;          // rows of it that are tokens
  float softcap = 0;               // C: logits are C tanh(x / C) (Gemma 2, arXiv 2408.00118, section 2); 0: they are x
  // Of a vocabulary that ranks divide: who has the others, and the first token here. The two above, and logits, are
  // then those of this rank's tokens.
  std::shared_ptr<Communicator> ranks = nullptr;
  int64_t first = 0;

  // rows [n, dim] -> logits [n, padded vocabulary], of rows' type or f32.
  void logits(kernels::ConstView rows, kernels::View logits) const;
};

}  // namespace hone::ops
