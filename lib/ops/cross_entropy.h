// The head and the loss in one: logits exist only for some rows at a time, in the compute type.
#pragma once

#include <span>
#include <vector>

#include "autograd/autograd.h"
#include "weights/weight.h"

namespace hone::ops {

struct TokenLosses {
  LossTerm term;                 // "next_token", of the weight that was asked for: mean over the scored tokens, nats
  std::vector<float> losses;     // each token; 0 where not scored
  std::vector<uint8_t> correct;  // 1 where the largest logit is the target's
};

// x [rows, dim]; targets[i] below 0 is not scored; logits beyond `vocabulary` (padding) are ignored. With `of_rows`, a
// weight for each row, the mean is weighted with them.
//
// While a tape records, the gradients of x and of the head are computed here, chunk by chunk, so that logits need not
// be kept or computed again. That takes the weight that the term has in what is minimized: it comes back in the term,
// which is handed to Tape::backward() as it is.
TokenLosses cross_entropy_head(const Var& x, const std::shared_ptr<Weight>& head, int64_t vocabulary,
                               std::span<const int32_t> targets, float weight = 1.0f,
                               std::span<const float> of_rows = {});

// Rows whose logits exist at once; `vocabulary`: rows of the head, padding included.
int64_t head_chunk_rows(int64_t rows, int64_t vocabulary);

}  // namespace hone::ops
