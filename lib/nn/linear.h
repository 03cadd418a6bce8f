// Linear layers and norms.
#pragma once

#include <memory>
#include <string>

#include "nn/blueprint.h"
#include "nn/call.h"
#include "nn/parameters.h"
#include "ops/linear.h"
#include "ops/norm.h"

namespace hone {

struct Linear {
  std::shared_ptr<Weight> weight;
  std::shared_ptr<Parameter> bias;  // null: none

  // A weight without numbers, which take no memory yet, and a bias of 0.
  static Linear make(int64_t outputs, int64_t inputs, bool with_bias);
  // `unread`: nobody reads the values that come out (ops::linear).
  Var forward(const Var& x, const Call& call, bool unread = false) const;
  // `gated` and `parts`: see ParameterInfo. Gates and values are the parts of a gated one.
  void visit(const Place& at, Role role, Visitor& visitor, bool gated = false, std::vector<int64_t> parts = {});
};

struct Norm {
  NormKind kind = NormKind::rms_norm;
  float epsilon = 1e-5f;
  std::shared_ptr<Parameter> gain;
  std::shared_ptr<Parameter> bias;  // null: none

  static Norm make(const BlockBlueprint& blueprint);     // gain 1, bias 0
  static Norm of_head(const BlockBlueprint& blueprint);  // RMS over a head's numbers, whatever the others are
  ops::Normed forward(const Var& residual, const Var& branch, DType type) const;
  void visit(const Place& at, Visitor& visitor);
};

}  // namespace hone
