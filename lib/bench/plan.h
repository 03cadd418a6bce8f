// What a step of training by many ranks would take: its time, the memory of a rank and the bytes that it sends, from
// the model's shape and from what a rank and its network can do. Nothing is run: a plan is a function of its arguments.
#pragma once

#include <cstdint>
#include <string>

#include "measure/footprint.h"
#include "model/config.h"
#include "nn/recompute.h"
#include "train/optimizers/settings.h"

namespace hone {

// Ranks in groups of `tensor`, which divide each matrix among them; the groups divide the step's sequences. Or of
// `expert`, which have the experts of mixtures between them; then all ranks divide the sequences.
struct PlanLayout {
  int64_t ranks = 1, tensor = 1, expert = 1;
  double balance = 1;       // rows of the busiest rank's experts over the mean of its group
  int64_t batch = 32;       // sequences a step
  int64_t accumulate = 1;   // batches that each group computes of them, one after the other
  int64_t context = 0;      // tokens of a sequence; 0: the model's
  DType type = DType::f32;  // of activations and products
  RecomputePlan recompute = {};
  OptimizerSettings optimizer = {};
  int64_t groups() const { return ranks / tensor; }  // that share a step's sequences
};

// Of one rank; all are alike.
struct PlanMachine {
  double flops = 0;      // multiplications and additions of matrix products and attention, a second
  double bandwidth = 0;  // bytes of memory a second
  double network = 0;    // bytes that it sends, and at the same time receives, a second
  double latency = 0;    // seconds before a message is on its way
};

struct StepPlan {
  double parameters = 0;         // of the model
  double active_parameters = 0;  // of them, those that a token goes through
  double expert_parameters = 0;  // of the routed experts that a rank has
  double flops = 0;              // of a rank's step, what runs again included, with an even load of experts
  // Seconds of a step. Nothing overlaps.
  double compute_seconds = 0;  // products and attention
  double update_seconds = 0;   // sums of gradients and the optimizer, by memory
  double data_seconds = 0;     // gradients to the owners, values from them
  double tensor_seconds = 0;   // sums of what matrices in parts give
  double expert_seconds = 0;   // tokens to the owners of their experts and back
  double data_bytes = 0;       // that a rank sends a step
  double tensor_bytes = 0;
  double expert_bytes = 0;  // with an even load
  Footprint memory;         // of a rank
  int64_t tokens = 0;       // of a step, of all ranks
  double step_seconds() const {
    return compute_seconds + update_seconds + data_seconds + tensor_seconds + expert_seconds;
  }
  double tokens_per_second() const { return static_cast<double>(tokens) / step_seconds(); }
  std::string limit() const;  // the largest of the seconds: "compute", "update", "data", "tensor" or "expert"
};

// Throws Error(usage) where ranks do not divide heads, widths, the vocabulary, experts or the batch, naming both, where
// they are to divide a model in two ways, and for a balance of ranks that have no experts between them.
void check_plan(const Config& config, const PlanLayout& layout);

// Throws as check_plan(). Formulas are in docs/scale.md.
StepPlan plan_step(const Config& config, const PlanLayout& layout, const PlanMachine& machine);

}  // namespace hone
