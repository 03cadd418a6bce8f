#include "train/average.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"

namespace hone {

ParameterAverage::ParameterAverage(Transformer& model, double decay) : decay_(decay) {
  struct Collector : Visitor {
    std::vector<Slot>* slots;
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      slots->push_back({info.name, weight->parameter(), weight, weight->parameter()->value.clone()});
    }
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      slots->push_back({info.name, &parameter, nullptr, parameter.value.clone()});
    }
  } collector;
  collector.slots = &slots_;
  model.visit(collector);
}

void ParameterAverage::add(int64_t step) {
  const double t = static_cast<double>(step), decay = std::min(decay_, (1 + t) / (10 + t));
  const auto kept = static_cast<float>(decay), added = static_cast<float>(1 - decay);
  constexpr int64_t grain = 1 << 15;
  for (Slot& slot : slots_) {
    float* const average = slot.average.data<float>();
    const float* const value = slot.parameter->value.data<float>();
    kernels::parallel_for(slot.average.size(), grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) average[i] = kept * average[i] + added * value[i];
    });
    if (const Bitmask mask = slot.weight ? slot.weight->mask() : Bitmask())
      kernels::apply_mask(slot.average.view(), mask.data());
  }
}

void ParameterAverage::exchange() {
  for (Slot& slot : slots_) {
    std::swap(slot.parameter->value, slot.average);
    ++slot.parameter->version;
  }
}

std::map<std::string, Tensor> ParameterAverage::state() const {
  std::map<std::string, Tensor> result;
  for (const Slot& slot : slots_) result[slot.name] = slot.average;
  return result;
}

void ParameterAverage::restore(const std::map<std::string, Tensor>& state) {
  for (Slot& slot : slots_) {
    const auto found = state.find(slot.name);
    if (found == state.end() || found->second.shape() != slot.average.shape())
      throw input_error("the checkpoint's average of '{}' is missing or does not fit the model", slot.name);
    std::memcpy(slot.average.raw(), found->second.raw(), slot.average.bytes());
  }
}

}  // namespace hone
