#include "train/optimizer.h"

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "kernels/rows/elementwise.h"
#include "weights/dense_weight.h"

namespace hone {

void require_trainable(Transformer& model) {
  struct Check : Visitor {
    void weight(const std::string& name, std::shared_ptr<Weight>& weight, Linear*) override {
      if (!weight->parameter())
        throw usage_error(
            "'{}' is a {} {} weight, which cannot be trained; start from the model before it was quantized", name,
            weight->form(), weight->element());
    }
    void parameter(const std::string&, Parameter&) override {}
  } check;
  model.visit(check);
}

Optimizer::Optimizer(Transformer& model, const AdamWSettings& settings) : settings_(settings) {
  require_trainable(model);
  struct Collector : Visitor {
    std::vector<Slot>* slots;
    void weight(const std::string& name, std::shared_ptr<Weight>& weight, Linear*) override {
      add(name, *weight->parameter(), weight);
    }
    void parameter(const std::string& name, Parameter& parameter) override { add(name, parameter, nullptr); }
    void add(const std::string& name, Parameter& parameter, std::shared_ptr<Weight> weight) {
      make_writable(parameter.value);
      slots->push_back({name, &parameter, std::move(weight), Tensor::zeros(parameter.value.shape()),
                        Tensor::zeros(parameter.value.shape())});
    }
  } collector;
  collector.slots = &slots_;
  model.visit(collector);
}

double Optimizer::gradient_norm() {
  double total = 0;
  for (Slot& slot : slots_) {
    if (!slot.parameter->has_grad) continue;
    if (const Tensor mask = slot.weight ? slot.weight->mask() : Tensor())
      kernels::apply_mask(slot.parameter->grad.view(), mask.data<uint8_t>());
    total += kernels::sum_of_squares(slot.parameter->grad.view());
  }
  return std::sqrt(total);
}

void Optimizer::step(double learning_rate, double scale) {
  ++steps_;
  for (Slot& slot : slots_) {
    Parameter& p = *slot.parameter;
    if (!p.has_grad || !p.trainable) continue;
    const Tensor mask = slot.weight ? slot.weight->mask() : Tensor();
    kernels::AdamW a;
    a.count = p.value.size();
    a.value = p.value.data<float>();
    a.grad = p.grad.data<float>();
    a.m = slot.m.data<float>();
    a.v = slot.v.data<float>();
    a.mask = mask ? mask.data<uint8_t>() : nullptr;
    a.mask_cols = mask ? p.value.dim(-1) : 0;
    a.grad_scale = static_cast<float>(scale);
    a.learning_rate = static_cast<float>(learning_rate);
    a.beta1 = static_cast<float>(settings_.beta1);
    a.beta2 = static_cast<float>(settings_.beta2);
    a.epsilon = static_cast<float>(settings_.epsilon);
    a.weight_decay = p.decay ? static_cast<float>(settings_.weight_decay) : 0.0f;
    a.correction1 = static_cast<float>(1 - std::pow(settings_.beta1, static_cast<double>(steps_)));
    a.correction2 = static_cast<float>(1 - std::pow(settings_.beta2, static_cast<double>(steps_)));
    kernels::adamw(a);
    p.has_grad = false;
    ++p.version;
  }
}

void Optimizer::discard_gradients() {
  for (Slot& slot : slots_) slot.parameter->has_grad = false;
}

std::map<std::string, Tensor> Optimizer::state() const {
  std::map<std::string, Tensor> result;
  for (const Slot& slot : slots_) {
    result[slot.name + ".m"] = slot.m;
    result[slot.name + ".v"] = slot.v;
  }
  return result;
}

void Optimizer::restore(const std::map<std::string, Tensor>& state, int64_t steps) {
  for (Slot& slot : slots_)
    for (const char* moment : {"m", "v"}) {
      const std::string name = slot.name + "." + moment;
      const auto found = state.find(name);
      Tensor& own = *moment == 'm' ? slot.m : slot.v;
      if (found == state.end() || found->second.shape() != own.shape() || found->second.dtype() != DType::f32)
        throw input_error("the checkpoint's optimizer state '{}' is missing or does not fit the model", name);
      std::memcpy(own.raw(), found->second.raw(), own.bytes());
    }
  steps_ = steps;
}

}  // namespace hone
