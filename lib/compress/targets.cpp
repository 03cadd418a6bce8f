#include "compress/targets.h"

#include <map>

#include "base/error.h"

namespace hone {

std::regex name_pattern(const std::string& text, const std::string& option) {
  try {
    return std::regex(text, std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& error) {
    throw usage_error("{} '{}' is not a regular expression: {}", option, text, error.what());
  }
}

std::vector<NamedWeight> named_weights(const Transformer& model) {
  struct Collector : Reader {
    std::vector<NamedWeight> weights;
    void weight(const ParameterInfo& info, const Weight& weight) override {
      weights.push_back({info.name, &weight, info.role, info.layer});
    }
    void parameter(const ParameterInfo&, const Parameter&) override {}
  } collector;
  model.visit(collector);
  return collector.weights;
}

std::vector<std::string> names_of(std::span<const NamedWeight> weights) {
  std::vector<std::string> names;
  for (const NamedWeight& weight : weights) names.push_back(weight.name);
  return names;
}

std::vector<WeightSlot> weight_slots(Transformer& model) {
  struct Collector : Visitor {
    std::vector<WeightSlot> slots;
    void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
      slots.push_back({info.name, &weight, info.role});
    }
    void parameter(const ParameterInfo&, Parameter&) override {}
  } collector;
  model.visit(collector);
  return collector.slots;
}

std::vector<WeightSlot> weight_slots(Transformer& model, std::span<const std::string> names) {
  std::map<std::string, WeightSlot> all;
  for (const WeightSlot& slot : weight_slots(model)) all.emplace(slot.name, slot);
  std::vector<WeightSlot> slots;
  for (const std::string& name : names) slots.push_back(all.at(name));
  return slots;
}

}  // namespace hone
