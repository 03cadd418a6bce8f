// Which weights a compression changes: linear layers by name.
#pragma once

#include <memory>
#include <regex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "model/transformer.h"

namespace hone {

// A regular expression (ECMAScript) that is searched for in weights' names. Throws Error(usage), naming `option`, if it
// is none.
std::regex name_pattern(const std::string& text, const std::string& option);

inline constexpr const char* weights_of_blocks = "^blocks\\.";  // what is pruned where nobody says otherwise

struct TargetRule {
  std::regex targets;  // weights that are changed …
  std::regex keep;     // … unless this is found in their names too
  bool chosen(const std::string& name) const {
    return std::regex_search(name, targets) && !std::regex_search(name, keep);
  }
};

// All weights (linear layers, embedding, head) by name, in the order of the model: to be read …
struct NamedWeight {
  std::string name;
  const Weight* weight;
  Role role;
  int64_t layer;  // -1: of no block
};
std::vector<NamedWeight> named_weights(const Transformer& model);
std::vector<std::string> names_of(std::span<const NamedWeight> weights);

// … and to be replaced.
struct WeightSlot {
  std::string name;
  std::shared_ptr<Weight>* weight;
  Role role;
};
std::vector<WeightSlot> weight_slots(Transformer& model);
// Those of these names, in their order; each is of a weight.
std::vector<WeightSlot> weight_slots(Transformer& model, std::span<const std::string> names);

// Where its scope ends, slots have the weights again that they had when it was made.
class Restore {
 public:
  explicit Restore(std::vector<std::shared_ptr<Weight>*> slots) : slots_(std::move(slots)) {
    for (const std::shared_ptr<Weight>* slot : slots_) before_.push_back(*slot);
  }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;
  ~Restore() {
    for (size_t i = 0; i < slots_.size(); ++i) *slots_[i] = before_[i];
  }
  const std::vector<std::shared_ptr<Weight>>& before() const { return before_; }

 private:
  std::vector<std::shared_ptr<Weight>*> slots_;
  std::vector<std::shared_ptr<Weight>> before_;
};

}  // namespace hone
