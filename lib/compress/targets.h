// Which weights a compression changes: linear layers by name.
#pragma once

#include <memory>
#include <regex>
#include <span>
#include <string>
#include <vector>

#include "model/transformer.h"

namespace hone {

// A regular expression (ECMAScript) that is searched for in weights' names. Throws Error(usage), naming `option`, if it
// is none.
std::regex name_pattern(const std::string& text, const std::string& option);

struct TargetRule {
  std::regex targets;  // weights that are changed …
  std::regex keep;     // … unless this is found in their names too
  bool chosen(const std::string& name) const {
    return std::regex_search(name, targets) && !std::regex_search(name, keep);
  }
};

// The slots of all weights (linear layers, embedding, head) by name.
struct WeightSlot {
  std::string name;
  std::shared_ptr<Weight>* weight;
  Role role;
};
std::vector<WeightSlot> weight_slots(Transformer& model);
std::vector<std::string> names_of(std::span<const WeightSlot> slots);

}  // namespace hone
