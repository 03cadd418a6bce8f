// The optimizer of a model: a rule and its state for every parameter (train/optimizers/).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "model/whole_arrays.h"
#include "train/gradient_sum.h"
#include "train/optimizers/update_rule.h"

namespace hone {

// Throws Error(usage), naming the first, for a weight that cannot be trained.
void require_trainable(const Transformer& model);

// Throws Error(usage) for one whose steps are not of single elements: of a model in parts.
void require_elementwise(const OptimizerSettings& settings);

// Bytes of gradients and of what the optimizer keeps for a model of this shape, of which this one of `row` has a part:
// of one of the `ranks` that share batches, the one with most. With several batches a step, or ranks, there is a sum of
// gradients beside those of a batch.
double optimizer_bytes(const Config& config, const OptimizerSettings& settings, int64_t batches = 1, int ranks = 1,
                       const ModelRanks& row = {});

class Optimizer {
 public:
  // Keeps references into `model`: weights must not be replaced while it lives. Of several ranks, which share batches
  // (RankGrid::data), each keeps the state of some parameters that it has (divide()), and is given their
  // gradients alone. Throws as require_trainable().
  Optimizer(Transformer& model, const OptimizerSettings& settings, Communicator& ranks = *alone());

  std::vector<OwnedParameter> parameters() const;

  // On every rank, those with other parts of the model among them: Euclidean norm of all gradients; masked elements do
  // not count (and are cleared).
  double gradient_norm();
  // One step with the gradients scaled by `scale`, and of the weight decay the part `decay`; gradients are used up.
  // Masked elements stay 0. Values of parameters that other ranks own stay as they were.
  void step(double learning_rate, double scale, double decay = 1);
  void discard_gradients();

  std::string_view name() const { return name_; }  // of the row
  int64_t steps() const { return steps_; }
  int64_t state_bytes() const;  // of what the rules keep, on this rank
  // "<parameter>.<array of its rule>": shared, not copied. Those of other ranks are promised.
  std::map<std::string, Tensor> state() const;
  KeptArrays kept() const;  // the same, with who has them
  // `state`: of all ranks, and of the whole model. Error(input) when arrays do not fit.
  void restore(const std::map<std::string, Tensor>& state, int64_t steps);

 private:
  struct Slot {
    std::string name;
    Parameter* parameter;
    std::shared_ptr<Weight> weight;  // null for a plain parameter
    std::shared_ptr<const UpdateRule> rule;
    int owner;
    std::map<std::string, Tensor> state;  // elsewhere than on its owner: promised
    RankPart part;
    int64_t layer;
  };
  void divide_state();
  void add_parts(std::vector<double>& sums) const;
  Communicator& ranks_;
  std::shared_ptr<Communicator> parts_;  // who has the other parts of the model, where those share no batches; or null
  int width_ = 1;                        // where they do: how many of ranks_, side by side, have the model together
  std::string_view name_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

}  // namespace hone
