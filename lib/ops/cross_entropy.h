// The head and the loss in one: logits exist only for some rows at a time, in the compute type.
#pragma once

#include <span>
#include <vector>

#include "autograd/autograd.h"
#include "weights/weight.h"

namespace hone::ops {

struct TokenLosses {
  Var loss;                      // [1] f32: mean over the scored tokens, nats
  std::vector<float> losses;     // each token; 0 where not scored
  std::vector<uint8_t> correct;  // 1 where the largest logit is the target's
};

// x [rows, dim]; targets[i] below 0 is not scored; logits beyond `vocabulary` (padding) are ignored.
//
// While a tape records, the gradients of x and of the head are computed here, chunk by chunk, for a root seeded with
// `seed`, so that logits need not be kept or computed again: the loss must be (a summand of) the root, and
// Tape::backward must be given that seed.
TokenLosses cross_entropy_head(const Var& x, const std::shared_ptr<Weight>& head, int64_t vocabulary,
                               std::span<const int32_t> targets, float seed = 1.0f);

}  // namespace hone::ops
