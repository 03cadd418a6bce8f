#include "compress/targets.h"

#include "base/error.h"

namespace hone {

std::regex name_pattern(const std::string& text, const std::string& option) {
  try {
    return std::regex(text, std::regex::ECMAScript | std::regex::optimize);
  } catch (const std::regex_error& error) {
    throw usage_error("{} '{}' is not a regular expression: {}", option, text, error.what());
  }
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

std::vector<std::string> names_of(std::span<const WeightSlot> slots) {
  std::vector<std::string> names;
  for (const WeightSlot& slot : slots) names.push_back(slot.name);
  return names;
}

}  // namespace hone
