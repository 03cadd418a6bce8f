// Linear layers, norms, and how a module shows its parameters to a visitor.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/random.h"
#include "nn/blueprint.h"
#include "ops/linear.h"
#include "ops/norm.h"

namespace hone {

// Sees the rows that enter a linear layer: calibration.
class InputObserver {
 public:
  virtual ~InputObserver() = default;
  virtual void observe(kernels::ConstView x) = 0;
};

struct Linear;

// Saving, loading, optimizing, pruning, quantizing and counting are visitors. Names are the paths in the model file.
class Visitor {
 public:
  virtual ~Visitor() = default;
  // `layer` is null for a weight that is not a linear layer's (an embedding).
  virtual void weight(const std::string& name, std::shared_ptr<Weight>& weight, Linear* layer) = 0;
  virtual void parameter(const std::string& name, Parameter& parameter) = 0;
  // What is visited until end_experts() belongs to `experts` experts, of which `active` process a token.
  virtual void begin_experts(int64_t /*experts*/, int64_t /*active*/) {}
  virtual void end_experts() {}
};

struct Linear {
  std::shared_ptr<Weight> weight;
  std::optional<Parameter> bias;
  InputObserver* observer = nullptr;

  static Linear make(int64_t outputs, int64_t inputs, bool with_bias);  // weight unset, bias 0
  Var forward(const Var& x);
  void visit(const std::string& prefix, Visitor& visitor);
};

struct Norm {
  NormKind kind = NormKind::rms_norm;
  float epsilon = 1e-5f;
  Parameter gain;
  std::optional<Parameter> bias;

  static Norm make(const BlockBlueprint& blueprint);  // gain 1, bias 0
  ops::Normed forward(const Var& residual, const Var& branch, DType type);
  void visit(const std::string& prefix, Visitor& visitor);
};

}  // namespace hone
