#include "train/optimizers/adamw.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"
#include "train/optimizers/moments.h"

namespace hone {
namespace {

class AdamW : public UpdateRule {
 public:
  AdamW(const ParameterInfo& parameter, const OptimizerSettings& settings)
      : settings_(settings),
        m_(settings.moments, "m", false, seed_of(parameter, settings)),
        v_(settings.moments, "v", true, seed_of(parameter, settings)) {}

  std::vector<StateArray> arrays(const Shape& shape) const override {
    std::vector<StateArray> all = m_.arrays(shape);
    for (StateArray& array : v_.arrays(shape)) all.push_back(std::move(array));
    return all;
  }

  void apply(const Update& update) const override {
    kernels::AdamW a = kernel(update);
    if (settings_.moments == MomentForm::f32 && !settings_.cautious_decay) {
      a.m = update.state.at("m").data<float>();
      a.v = update.state.at("v").data<float>();
      kernels::adamw(a);
      return;
    }
    if (update.mask) kernels::apply_mask(update.parameter.grad.view(), update.mask.data());
    a.mask = nullptr;
    const int64_t count = a.count;
    kernels::parallel_for((count + Moments::block - 1) / Moments::block, 8, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        step_block(a, update, i * Moments::block, std::min((i + 1) * Moments::block, count));
    });
    if (update.mask) kernels::apply_mask(update.parameter.value.view(), update.mask.data());
  }

 private:
  static uint64_t seed_of(const ParameterInfo& parameter, const OptimizerSettings& settings) {
    return Random(settings.seed, "moments:" + parameter.name).next();
  }

  kernels::AdamW kernel(const Update& update) const {
    const Parameter& p = update.parameter;
    kernels::AdamW a;
    a.count = p.value.size();
    a.value = p.value.data<float>();
    a.grad = p.grad.data<float>();
    a.mask = update.mask ? update.mask.data() : nullptr;
    a.mask_cols = update.mask ? p.value.dim(-1) : 0;
    a.grad_scale = static_cast<float>(update.scale);
    const double beta1 = settings_.numbers[adamw_beta1], beta2 = settings_.numbers[adamw_beta2];
    a.learning_rate = static_cast<float>(update.learning_rate * settings_.adamw_rate);
    a.beta1 = static_cast<float>(beta1);
    a.beta2 = static_cast<float>(beta2);
    a.epsilon = 1e-8f;
    a.weight_decay = p.decay ? static_cast<float>(settings_.weight_decay * update.decay) : 0.0f;
    a.correction1 = static_cast<float>(1 - std::pow(beta1, static_cast<double>(update.step)));
    a.correction2 = static_cast<float>(1 - std::pow(beta2, static_cast<double>(update.step)));
    return a;
  }

  void step_block(kernels::AdamW a, const Update& update, int64_t begin, int64_t end) const {
    alignas(64) float m[Moments::block], v[Moments::block], before[Moments::block];
    m_.load(update.state, begin, end, m);
    v_.load(update.state, begin, end, v);
    a.m = m;
    a.v = v;
    a.value += begin;
    a.grad += begin;
    a.count = end - begin;
    const float decay = a.learning_rate * a.weight_decay;
    if (settings_.cautious_decay) {
      a.weight_decay = 0;
      std::copy_n(a.value, a.count, before);
    }
    kernels::adamw(a);
    // The mean has the sign of what the update subtracts.
    if (settings_.cautious_decay)
      for (int64_t i = 0; i < a.count; ++i)
        if (m[i] * before[i] >= 0) a.value[i] -= decay * before[i];
    m_.store(update.state, begin, end, m, update.step);
    v_.store(update.state, begin, end, v, update.step);
  }

  OptimizerSettings settings_;
  Moments m_, v_;
};

}  // namespace

std::shared_ptr<const UpdateRule> adamw_rule(const ParameterInfo& parameter, const Config&,
                                             const OptimizerSettings& settings) {
  return std::make_shared<AdamW>(parameter, settings);
}

}  // namespace hone
