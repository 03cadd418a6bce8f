#include "train/optimizer.h"

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "kernels/rows/elementwise.h"
#include "weights/dense_weight.h"

namespace hone {

void require_trainable(const Transformer& model) {
  struct Check : Reader {
    void weight(const ParameterInfo& info, const Weight& weight) override {
      if (!weight.trainable())
        throw usage_error(
            "'{}' is a {} {} weight, which cannot be trained; start from the model before it was quantized", info.name,
            weight.form(), weight.element());
    }
    void parameter(const ParameterInfo&, const Parameter&) override {}
  } check;
  model.visit(check);
}

double optimizer_bytes(const Config& config, const OptimizerSettings& settings) {
  struct Counter : Reader {
    const Config* config;
    const OptimizerSettings* settings;
    double bytes = 0;
    void weight(const ParameterInfo& info, const Weight& weight) override { add(info, {weight.rows(), weight.cols()}); }
    void parameter(const ParameterInfo& info, const Parameter& parameter) override {
      add(info, parameter.value.shape());
    }
    void add(const ParameterInfo& info, const Shape& shape) {
      bytes += StateArray{"gradient", shape}.bytes();
      for (const StateArray& array : settings->kind->rule(info, *config, *settings)->arrays(shape))
        bytes += array.bytes();
    }
  } counter;
  counter.config = &config;
  counter.settings = &settings;
  const ShapesOnly shapes;
  const Transformer model(config);
  model.visit(counter);
  return counter.bytes;
}

Optimizer::Optimizer(Transformer& model, const OptimizerSettings& settings) : name_(settings.kind->name) {
  require_trainable(model);
  struct Collector : Visitor {
    const Config* config;
    const OptimizerSettings* settings;
    std::vector<Slot>* slots;
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      add(info, *weight->parameter(), weight);
    }
    void parameter(const ParameterInfo& info, Parameter& parameter) override { add(info, parameter, nullptr); }
    void add(const ParameterInfo& info, Parameter& parameter, std::shared_ptr<Weight> weight) {
      make_writable(parameter.value);
      const auto rule = settings->kind->rule(info, *config, *settings);
      std::map<std::string, Tensor> state;
      for (const StateArray& array : rule->arrays(parameter.value.shape()))
        state[array.name] = Tensor::zeros(array.shape, array.type);
      slots->push_back({info.name, &parameter, std::move(weight), rule, std::move(state)});
    }
  } collector;
  collector.config = &model.config();
  collector.settings = &settings;
  collector.slots = &slots_;
  model.visit(collector);
}

double Optimizer::gradient_norm() {
  double total = 0;
  for (Slot& slot : slots_) {
    if (!slot.parameter->has_grad) continue;
    if (const Bitmask mask = slot.weight ? slot.weight->mask() : Bitmask())
      kernels::apply_mask(slot.parameter->grad.view(), mask.data());
    total += kernels::sum_of_squares(slot.parameter->grad.view());
  }
  return std::sqrt(total);
}

void Optimizer::step(double learning_rate, double scale, double decay) {
  ++steps_;
  for (Slot& slot : slots_) {
    Parameter& p = *slot.parameter;
    if (!p.has_grad || !p.trainable) continue;
    const Bitmask mask = slot.weight ? slot.weight->mask() : Bitmask();
    slot.rule->apply({p, mask, slot.state, learning_rate, scale, steps_, decay});
    p.has_grad = false;
    ++p.version;
  }
}

void Optimizer::discard_gradients() {
  for (Slot& slot : slots_) slot.parameter->has_grad = false;
}

int64_t Optimizer::state_bytes() const {
  size_t bytes = 0;
  for (const auto& [name, tensor] : state()) bytes += tensor.bytes();
  return static_cast<int64_t>(bytes);
}

std::map<std::string, Tensor> Optimizer::state() const {
  std::map<std::string, Tensor> result;
  for (const Slot& slot : slots_)
    for (const auto& [array, tensor] : slot.state) result[slot.name + "." + array] = tensor;
  return result;
}

void Optimizer::restore(const std::map<std::string, Tensor>& state, int64_t steps) {
  for (Slot& slot : slots_)
    for (auto& [array, own] : slot.state) {
      const std::string name = slot.name + "." + array;
      const auto found = state.find(name);
      if (found == state.end() || found->second.shape() != own.shape() || found->second.dtype() != own.dtype())
        throw input_error("the checkpoint's optimizer state '{}' is missing or does not fit the model", name);
      std::memcpy(own.raw(), found->second.raw(), own.bytes());
    }
  steps_ = steps;
}

}  // namespace hone
