// An engine whose steps take the time that they would, and compute nothing.
#pragma once

#include "base/random.h"
#include "bench/requests/step_costs.h"
#include "serve/executor.h"

namespace hone {

// A clock of its own, which calls and waiting move on.
class SimulatedExecutor : public Executor {
 public:
  // `settings` are complete().
  SimulatedExecutor(const Transformer& model, const EngineSettings& settings, const StepCosts& costs);

  const Config& config() const override { return config_; }
  State& state() override { return state_; }
  bool keeps() const override { return keeps_; }
  bool mixes() const override { return true; }  // the cost of a step has all its calls in it
  double now() const override { return now_; }
  void wait_until(double seconds) override;
  Tensor read(std::vector<Span> spans, const Input& rows, Phase phase) override;
  Tensor logits(const Tensor& hidden, Phase phase) override;

 private:
  const Config& config_;
  const StepCosts& costs_;
  State state_;  // without layers
  bool keeps_;
  double now_ = 0;
  bool waited_ = false;
  Random random_{1, "steps"};  // which of the times that a step may take
  StepCosts::Shape shape_;
};

}  // namespace hone
