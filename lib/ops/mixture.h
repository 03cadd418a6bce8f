// Mixtures of experts: routing rows to experts, products over the rows of each, and their weighted sum.
#pragma once

#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "autograd/autograd.h"
#include "kernels/routing/routing.h"
#include "ops/linear.h"
#include "weights/weight.h"

namespace hone::ops {

// Which rows go to which experts, in the order in which the experts process them. A slot is one (row, choice) pair.
struct RoutePlan {
  int64_t rows = 0, top_k = 0;
  int64_t slots = 0;             // that are processed: rows * top_k without those left out
  std::vector<int64_t> counts;   // [experts] slots that chose the expert
  std::vector<int64_t> offsets;  // [experts + 1] where the rows of each expert begin
  Tensor places;                 // i32 [rows, top_k]: position of each slot, or -1
  Tensor sources;                // i32 [slots, …]: row of each position
  int64_t left_out() const { return rows * top_k - slots; }
};

// Each row to the one expert that is named for it, one of `experts`.
std::shared_ptr<const RoutePlan> plan_of_rows(std::span<const int32_t> chosen, int64_t experts);

struct RouteSettings {
  kernels::RouterKind kind = kernels::RouterKind::softmax;
  int64_t top_k = 1;
  bool normalized_gates = true;  // see kernels::RouteForward
  kernels::RouterNoise noise = kernels::RouterNoise::none;
  float temperature = 1;
  uint64_t seed = 0;          // of the noise
  double balance_weight = 0;  // of the balance loss: experts * sum over e of f_e P_e (Fedus et al., arXiv 2101.03961,
                              // equation 4), f the share of slots that chose e, P the mean normalized score
  // Choices of each expert in batches before this one whose gradients go into the same step, or null: f counts them too
  // (Qiu et al., arXiv 2501.11873, section 3).
  const std::vector<int64_t>* earlier_counts = nullptr;
  double z_weight = 0;  // of the mean squared log-sum-exp of the logits (Zoph et al., arXiv 2202.08906, equation 5)
  double capacity_factor = 0;  // an expert takes at most ceil(factor * rows * top_k / experts) slots; 0: all
  bool entropy = false;        // compute Routing::entropy
};

struct Routing {
  bool finite = true;                   // false: a logit is not; nothing below is set then
  Var gates;                            // f32 [rows, top_k]
  Var balance, z;                       // [1] f32: the weighted losses; empty where their weight is 0
  double balance_loss = 0, z_loss = 0;  // the same
  double entropy = 0;                   // sum over rows of that of the normalized scores, nats
  std::shared_ptr<const RoutePlan> plan;
};

// x [rows, dim]; weight [experts, dim] f32; bias [experts] f32 or empty: moves the choice alone
// (kernels/routing/routing.h).
Routing route(const Var& x, Parameter& weight, const Tensor& bias, const RouteSettings& settings);

// The rows of x that each expert processes, one expert after another: [slots, dim].
Var gather_slots(const Var& x, const std::shared_ptr<const RoutePlan>& plan);

// One expert's linear layer.
struct ExpertLinear {
  std::shared_ptr<Weight> weight;
  Parameter* bias = nullptr;  // may be null
};

// y[slots, outputs]: the rows of each expert times its weight. An expert without rows is not touched, nor its gradient.
// `eight_bits`: as of linear(); each expert has draws of its own.
Var grouped_linear(const Var& x, const std::shared_ptr<const RoutePlan>& plan, std::vector<ExpertLinear> experts,
                   std::optional<EightBits> eight_bits = {});

// y[rows, dim] = base + sum of gate * slot over the slots of each row. `base` may be empty; otherwise y takes its
// place: it must come straight from linear() or scale_rows(), whose backward passes do not read what they gave.
Var combine_slots(const Var& slots, const Var& gates, const std::shared_ptr<const RoutePlan>& plan, const Var& base);

// A factor for each row, of that row alone.
struct RowGates {
  Tensor scores;  // f32 [rows]: x w
  Var gates;      // f32 [rows, 1]: most * sigmoid(score)
};
// x [rows, dim]; weight [1, dim] f32.
RowGates row_gates(const Var& x, Parameter& weight, float most);

// Each row of x times its gate; gates f32 [rows, 1].
Var scale_rows(const Var& x, const Var& gates);

}  // namespace hone::ops
