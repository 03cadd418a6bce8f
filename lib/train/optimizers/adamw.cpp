#include "train/optimizers/adamw.h"

#include <cmath>

#include "kernels/rows/elementwise.h"

namespace hone {
namespace {

class AdamW : public UpdateRule {
 public:
  explicit AdamW(const OptimizerSettings& settings) : settings_(settings) {}

  std::vector<StateArray> arrays(const Shape& shape) const override { return {{"m", shape}, {"v", shape}}; }

  void apply(const Update& update) const override {
    const Parameter& p = update.parameter;
    kernels::AdamW a;
    a.count = p.value.size();
    a.value = p.value.data<float>();
    a.grad = p.grad.data<float>();
    a.m = update.state.at("m").data<float>();
    a.v = update.state.at("v").data<float>();
    a.mask = update.mask ? update.mask.data() : nullptr;
    a.mask_cols = update.mask ? p.value.dim(-1) : 0;
    a.grad_scale = static_cast<float>(update.scale);
    a.learning_rate = static_cast<float>(update.learning_rate * settings_.adamw.rate);
    a.beta1 = static_cast<float>(settings_.adamw.beta1);
    a.beta2 = static_cast<float>(settings_.adamw.beta2);
    a.epsilon = static_cast<float>(settings_.adamw.epsilon);
    a.weight_decay = p.decay ? static_cast<float>(settings_.weight_decay) : 0.0f;
    a.correction1 = static_cast<float>(1 - std::pow(settings_.adamw.beta1, static_cast<double>(update.step)));
    a.correction2 = static_cast<float>(1 - std::pow(settings_.adamw.beta2, static_cast<double>(update.step)));
    kernels::adamw(a);
  }

 private:
  OptimizerSettings settings_;
};

}  // namespace

std::shared_ptr<const UpdateRule> adamw_rule(const ParameterInfo&, const Config&, const OptimizerSettings& settings) {
  return std::make_shared<AdamW>(settings);
}

}  // namespace hone
