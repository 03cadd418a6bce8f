// What a step minimizes is a list of objectives: each makes terms of what the model gives for a batch and of what it
// should give. Terms that modules add by themselves (router balance) come from the model and are none of these.
//
// A new objective is a file here, with its settings, and a line in the table of objectives.cpp.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "model/transformer.h"
#include "ops/contrastive.h"

namespace hone {

struct ObjectiveSettings;

// One batch, before the model's forward pass.
struct ObjectiveBatch {
  std::span<const int32_t> inputs;  // [rows]: windows of equal length
  std::span<const int64_t> starts;  // where in the training text each of them begins
};

// The same after it. A tape records.
struct ObjectiveInput {
  const Transformer& model;
  const Call& call;
  std::span<const int32_t> inputs, targets;  // [rows]; a target below 0 is not scored
  const Var& hidden;                         // Transformer::finish(): [rows, dim] of call.type
  float weight;                              // of the batch in the step: terms are weighted with it beside their own
  std::span<const ExitOutput> exits = {};    // of call.exits
  std::span<const float> of_rows = {};       // weights of rows in the loss; none: all 1
  // Rows of parts that belong together, pair by pair (TrainingBatch).
  std::span<const ops::PooledRows> left = {}, right = {};
};

class Objective {
 public:
  virtual ~Objective() = default;
  // What it must have or see of the forward pass: it may give the call an observer. No tape records.
  virtual void prepare(const ObjectiveBatch& /*batch*/, Call& /*call*/) {}
  // The gradient of a term may be computed here already, for the weight that it comes back with.
  virtual std::vector<LossTerm> terms(const ObjectiveInput& input) = 0;
};

struct ObjectiveKind {
  std::string_view name;
  // Null where the settings do not ask for it.
  std::unique_ptr<Objective> (*make)(const ObjectiveSettings& settings);
};

std::span<const ObjectiveKind> objective_kinds();

// Those that the settings ask for, in the order of the table. The first is next-token prediction, whose first term is
// the loss that a run reports.
std::vector<std::unique_ptr<Objective>> objectives_of(const ObjectiveSettings& settings);

}  // namespace hone
