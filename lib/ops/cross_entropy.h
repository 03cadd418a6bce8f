// Next-token loss of the head.
#pragma once

#include <span>
#include <vector>

#include "ops/head_loss.h"

namespace hone::ops {

struct TokenLosses {
  LossTerm term;                 // "next_token", of the weight that was asked for: mean over the scored tokens, nats
  std::vector<float> losses;     // each token; 0 where not scored
  std::vector<uint8_t> correct;  // 1 where the largest logit is the target's
};

// x [rows, dim]; targets[i] below 0 is not scored; logits beyond `vocabulary` (padding) are ignored. The term as
// head_loss() makes it.
TokenLosses cross_entropy_head(const Var& x, const std::shared_ptr<Weight>& head, int64_t vocabulary,
                               std::span<const int32_t> targets, float weight = 1.0f);

}  // namespace hone::ops
