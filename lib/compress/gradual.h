// Pruning by magnitude while a model trains: what is pruned when.
#pragma once

#include <cstdint>
#include <memory>

#include "compress/patterns.h"
#include "model/transformer.h"

namespace hone {

// The sparsity of every linear layer but the head rises on cubic_sparsity() and what is pruned stays so.
class GradualPruning {
 public:
  // Of a run of `steps` steps: prunes before step `from * steps`, every `every` steps, and for the last time before
  // step `until * steps`, or before the last step of the run where that lies earlier: a run always reaches `sparsity`.
  // Throws Error(usage) for a pattern that has a sparsity of its own, and unless 0 <= sparsity < 1,
  // 0 <= from <= until <= 1 and every > 0.
  GradualPruning(std::shared_ptr<const Pattern> pattern, double sparsity, double from, double until, int64_t every,
                 int64_t steps);

  // Before any step: throws Error(usage), naming the weight, where the pattern does not fit one.
  void check(Transformer& model) const;

  // Call before each step, counted from 0.
  void before_step(Transformer& model, int64_t step) const;

  // Steps that are done when the final masks are there: after any later step they are in force.
  int64_t last_pruning() const { return until_; }

 private:
  std::shared_ptr<const Pattern> pattern_;
  double sparsity_;
  int64_t from_, until_, every_;
};

// Weights of linear layers but the head, and those of them that a mask has pruned by more than `sparsity`.
struct PrunedBeyond {
  int64_t weights = 0, beyond = 0;
};
PrunedBeyond pruned_beyond(Transformer& model, double sparsity);

}  // namespace hone
