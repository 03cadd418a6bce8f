// Rounding the blocks' weights while a model trains, so that what is trained is what quantization will leave.
#pragma once

#include <atomic>
#include <memory>

#include "kernels/packed/element.h"
#include "model/transformer.h"

namespace hone {

// From step `from` * steps on, products use weights rounded by the method "search" without calibration, as quantize
// does, and gradients move the numbers behind them (weights/computed_weight.h). Embedding, head, norms and routers stay
// as they are.
struct QuantizeAwareSettings {
  kernels::PackedElement element{};  // one with scales
  int64_t group = 0;
  double from = 0;  // part of the steps
  int64_t steps = 0;
};

class QuantizeAware {
 public:
  // Replaces the weights, which the optimizer must not have seen yet. Error(usage) for an element without scales or a
  // group that cannot be.
  QuantizeAware(Transformer& model, const QuantizeAwareSettings& settings);

  // Before each step, counted from 0. Masks that change are kept to.
  void before_step(int64_t step) const { *active_ = step >= from_; }
  int64_t begins() const { return from_; }

  // Gives the model its ordinary weights back, with the rounded values where rounding has begun: quantizing them to the
  // same element and group loses nothing.
  void finish();

 private:
  Transformer& model_;
  int64_t from_;
  std::shared_ptr<std::atomic<bool>> active_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace hone
