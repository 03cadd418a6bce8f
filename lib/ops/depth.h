// Routers of depth (mixture of depths, Raposo et al., arXiv 2404.02258): a score that says which rows go through a
// layer, and a prediction of what that says where later rows are not known.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "ops/mixture.h"

namespace hone::ops {

// Scores, and what a row that goes through is weighted with, so that gradients reach the weight: at most 2, so that a
// router that knows nothing weighs with 1.
inline RowGates depth_scores(const Var& x, Parameter& weight) {
  return row_gates(x, weight, 2);
}

// The rows that go through a layer, ascending, as the slots of one expert: for gather_slots() and combine_slots().
std::shared_ptr<const RoutePlan> passing_plan(std::span<const int32_t> passing, int64_t rows);

// A small network that takes the rows that a router is given, and tells whether one is among the best of its sequence
// (section 3.5 there): logit = output relu(hidden x + hidden_bias) + output_bias.
struct DepthPredictor {
  Parameter &hidden, &hidden_bias;  // [width, dim], [width]
  Parameter &output, &output_bias;  // [1, width], [1]
};

// f32 [rows], above 0 where a row is taken to be among the best. A row's logit does not depend on the other rows.
Tensor predicted(const Tensor& x, const DepthPredictor& predictor);

struct DepthPrediction {
  Tensor logits;  // predicted()
  Var loss;       // [1] f32: mean binary cross-entropy, nats
};

// best[r] is 1 for rows that are among the best. No gradient flows into x.
DepthPrediction depth_prediction(const Tensor& x, const DepthPredictor& predictor, std::span<const uint8_t> best);

}  // namespace hone::ops
