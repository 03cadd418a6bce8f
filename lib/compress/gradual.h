// Pruning by magnitude while a model trains: what is pruned when.
#pragma once

#include <cstdint>
#include <memory>

#include "compress/patterns.h"
#include "model/transformer.h"

namespace hone {

// Of a run of `steps` steps: prunes before step `from * steps`, every `every` steps, and for the last time before step
// `until * steps`, or before the last step of the run where that lies earlier: a run always reaches `sparsity`.
struct GradualSettings {
  std::shared_ptr<const Pattern> pattern;
  double sparsity = 0;
  double from = 0, until = 1;  // parts of the steps
  int64_t every = 1, steps = 0;
};

// Weights that are pruned, and those of them that a mask has pruned by more than is asked for already.
struct PrunedBeyond {
  int64_t weights = 0, beyond = 0;
};

// The sparsity of every linear layer but the head rises on cubic_sparsity() and what is pruned stays so.
class GradualPruning {
 public:
  // Throws Error(usage) for a pattern that has a sparsity of its own, or that does not fit one of the weights, which is
  // named; and unless 0 <= sparsity < 1, 0 <= from <= until <= 1 and every > 0. `model` must outlive this.
  GradualPruning(Transformer& model, const GradualSettings& settings);

  PrunedBeyond pruned_beyond() const;

  // Call before each step, counted from 0.
  void before_step(int64_t step) const;

  // Steps that are done when the final masks are there: after any later step they are in force.
  int64_t last_pruning() const { return until_; }

 private:
  Transformer& model_;
  GradualSettings settings_;
  int64_t from_, until_;
};

}  // namespace hone
