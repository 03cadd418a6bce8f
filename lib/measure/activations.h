// What a training step keeps of its forward pass, and what it computes again instead: by shape alone.
#pragma once

#include "base/dtype.h"
#include "model/config.h"
#include "nn/recompute.h"

namespace hone {

// One batch of a step.
struct TrainingShape {
  int64_t batch = 1, context = 1;  // windows, tokens of each
  DType type = DType::f32;         // of activations and products
  double capacity = 0;             // capacity factor of mixtures; 0: none is left out
  RecomputePlan recompute = {};
  int64_t exits = 0;         // whose losses count in the step
  int64_t expert_ranks = 1;  // that have the experts of mixtures between them
};

// The most bytes that tensors of a step take at once beside parameters, gradients and what the optimizer keeps, in the
// blocks that the pool takes for them. Counted array by array as the modules make and drop them.
double activation_bytes(const Config& config, const TrainingShape& shape);

// Multiplications and additions that the plan adds to a step, by products and attention.
double recomputed_flops(const Config& config, const TrainingShape& shape);

}  // namespace hone
