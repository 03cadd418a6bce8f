// Next-token loss of the head.
#pragma once

#include <span>
#include <vector>

#include "ops/head_loss.h"

namespace hone::ops {

struct TokenLosses {
  LossTerm term;                 // "next_token", of the weight that was asked for: mean over the scored tokens, nats
  LossTerm z_term;               // "z", where its weight is above 0: mean of (log Z)^2 over the same tokens
  std::vector<float> losses;     // each token; 0 where not scored
  std::vector<uint8_t> correct;  // 1 where the largest logit is the target's
};

struct TokenLossWeights {
  float next_token = 1;
  // Times that, of (log Z)^2, Z the sum of the logits' exponentials: it keeps logits from drifting (PaLM, arXiv
  // 2204.02311, section 5). Its gradient is part of the other term's; this one is a number to be added and shown.
  float z = 0;
  std::span<const float> rows = {};  // one for each row, in both means; none: all 1
};

// x [rows, dim]; targets[i] below 0 is not scored; logits beyond the vocabulary (padding) are ignored. The terms are as
// head_loss() makes them.
TokenLosses cross_entropy_head(const Var& x, const Head& head, std::span<const int32_t> targets,
                               const TokenLossWeights& weights = {});

}  // namespace hone::ops
