// Small models and texts for compression.
#pragma once

#include <algorithm>
#include <memory>

#include "compress/calibration.h"
#include "compress/targets.h"
#include "kernels/packed/element.h"
#include "support/failure.h"
#include "support/models.h"

namespace hone::test {

inline constexpr kernels::PackedElement int8 = kernels::element_named("int8"), int4 = kernels::element_named("int4"),
                                        bf16_element = kernels::element_named("bf16");

inline std::unique_ptr<Transformer> fresh(const Config& config = small_config()) {
  auto model = std::make_unique<Transformer>(config);
  initialize(*model, 1, 0.2);
  return model;
}

// The second layer a mixture of 4 experts and a shared one.
inline Config mixture_config() {
  Config config = small_config();
  config.layers[1].experts = 4;
  config.layers[1].top_k = 2;
  config.layers[1].shared_experts = 1;
  return config;
}

// Sends every token to the first two experts.
inline void leave_experts_alone(Transformer& model) {
  struct Setter : Visitor {
    void weight(const ParameterInfo&, std::shared_ptr<Weight>&) override {}
    void parameter(const ParameterInfo& info, Parameter& parameter) override {
      if (info.role == Role::router_bias) std::fill_n(parameter.value.data<float>(), 2, 100.0f);
    }
  } setter;
  model.visit(setter);
}

inline CalibrationText calibration_windows(int64_t windows = 8, int64_t length = 16) {
  return {windows, length, some_ids(windows * length)};
}

inline std::shared_ptr<Weight>& weight_named(Transformer& model, const std::string& name) {
  const std::vector<WeightSlot> slots = weight_slots(model);
  const auto found = std::find_if(slots.begin(), slots.end(), [&](const WeightSlot& s) { return s.name == name; });
  REQUIRE(found != slots.end());
  return *found->weight;
}

// The weights themselves: the same ones later, if nothing was changed.
inline std::vector<std::shared_ptr<Weight>> weights_of(Transformer& model) {
  std::vector<std::shared_ptr<Weight>> weights;
  for (const WeightSlot& slot : weight_slots(model)) weights.push_back(*slot.weight);
  return weights;
}

inline bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::equal(a.raw(), a.raw() + a.bytes(), b.raw());
}

inline bool same_bytes(const Bitmask& a, const Bitmask& b) {
  return same_bytes(a.bits(), b.bits());
}

}  // namespace hone::test
