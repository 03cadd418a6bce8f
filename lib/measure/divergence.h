// Distances between the predictions of two models, from their logits.
#pragma once

#include <cstdint>
#include <span>

#include "report/scores.h"

namespace hone {

struct Divergence {
  double kl;   // KL(softmax(baseline) || softmax(model)) in nats, 0 or more
  bool agree;  // both have their largest logit at the same place (the first of equal ones)
};

// Two rows of logits of the same vocabulary. A logit of -infinity is a token that cannot occur: where the baseline has
// one it adds nothing, where only the model has one the divergence is infinite. A NaN anywhere, +infinity, or a row of
// nothing but -infinity makes kl NaN.
Divergence divergence(std::span<const float> baseline, std::span<const float> model);

// The sum over rows: `baseline` and `model` are [rows, vocab], row after row. Rows are split over threads and added in
// order, so that the result does not depend on the number of threads.
WindowDivergence divergence_of_rows(std::span<const float> baseline, std::span<const float> model, int64_t vocab);

}  // namespace hone
