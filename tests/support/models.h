// Small models for tests.
#pragma once

#include <nlohmann/json.hpp>

#include "base/random.h"
#include "fixtures/fixture.h"
#include "model/transformer.h"

namespace hone::test {

inline Config small_config() {
  Config c;
  c.vocabulary = c.padded_vocabulary = 50;
  c.context = 96;
  c.block.dim = 48;
  c.block.head_dim = 16;
  // Layers that differ, with grouped heads in one of them.
  c.layers = {{4, 2, 96, "full"}, {2, 2, 64, "full"}};
  return c;
}

// Ids of that vocabulary.
inline std::vector<int32_t> some_ids(int64_t count) {
  Random random(5, "ids");
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) id = static_cast<int32_t>(random.below(50));
  return ids;
}

// The parameters of a fixture by name.
class FixtureLoader : public Visitor {
 public:
  explicit FixtureLoader(const Fixture& fixture) : fixture_(fixture) {}
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    fill(info.name, *weight->parameter());
  }
  void parameter(const ParameterInfo& info, Parameter& parameter) override { fill(info.name, parameter); }

 private:
  void fill(const std::string& name, Parameter& parameter) {
    parameter.value = fixture_.tensor("parameters/" + name);
    ++parameter.version;
  }
  const Fixture& fixture_;
};

}  // namespace hone::test
