#include "compress/quantize.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/stop.h"
#include "compress/quantize_matrix.h"
#include "weights/dense_weight.h"
#include "weights/packed_weight.h"

namespace hone {
namespace {

constexpr std::array<std::string_view, 4> names = {"bf16", "int8", "int4", "keep"};

PackedType type_for(const WeightSlot& slot, const QuantizeSettings& s) {
  for (const auto& [pattern, type] : s.overrides)
    if (std::regex_search(slot.name, pattern)) return type;
  return slot.linear && slot.name != "head.weight" ? s.type : s.embedding;
}

bool quantized(const Weight& weight) {
  return weight.element() != "f32";
}

struct Choice {
  WeightSlot slot;
  PackedType type;
};

std::vector<Choice> choices_for(Transformer& model, const QuantizeSettings& s) {
  std::vector<Choice> choices;
  for (const WeightSlot& slot : weight_slots(model)) {
    const PackedType type = type_for(slot, s);
    if (type == PackedType::keep) continue;
    if (quantized(**slot.weight) && !s.allow_requantize)
      throw AlreadyQuantized(ErrorKind::usage, fmt::format("'{}' is {} already; quantize the model it was made from",
                                                           slot.name, (*slot.weight)->element()));
    choices.push_back({slot, type});
  }
  if (choices.empty()) throw usage_error("the options leave no weight to quantize");
  std::stable_partition(choices.begin(), choices.end(), [](const Choice& choice) { return choice.slot.linear; });
  return choices;
}

const RoundMethod& method_for(PackedType type, const QuantizeSettings& s) {
  return has_scales(type) || s.method->without_scales ? *s.method : round_method("nearest");
}

std::shared_ptr<Weight> pack(const RoundedWeight& rounded, PackedType type, const Tensor& mask) {
  if (!has_scales(type)) return pack_bf16(rounded.values, mask);
  return type == PackedType::int8 ? pack_int8(rounded.matrix) : pack_int4(rounded.matrix);
}

QuantizedLayer quantize_weight(const Choice& choice, const QuantizeSettings& s, const Measurement& measured) {
  check_stop();
  std::shared_ptr<Weight>& slot = *choice.slot.weight;
  const Tensor dense = slot->to_dense(), mask = slot->mask();
  QuantizedLayer layer;
  layer.name = choice.slot.name;
  layer.type = choice.type;
  if (has_scales(choice.type)) layer.group = s.group;
  layer.bytes_before = quantized(*slot) ? slot->stored_bytes() : dense.size() * 4;
  layer.calibration_tokens = measured.tokens;
  layer.data_free = measured.data_free;
  const RoundedWeight rounded =
      method_for(choice.type, s).run({layer.name, dense, mask, measured.inputs, choice.type, layer.group});
  layer.relative_error = rounded.relative_error;
  slot = pack(rounded, choice.type, mask);
  layer.form = slot->form();
  layer.bytes = slot->stored_bytes();
  return layer;
}

}  // namespace

PackedType packed_type_named(const std::string& name) {
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return static_cast<PackedType>(i);
  throw usage_error("unknown type '{}'; known: {}", name, fmt::join(names, ", "));
}

std::string_view name_of(PackedType type) {
  return names[static_cast<size_t>(type)];
}

bool has_scales(PackedType type) {
  return type == PackedType::int8 || type == PackedType::int4;
}

std::vector<std::string> weights_to_quantize(Transformer& model, const QuantizeSettings& s) {
  std::vector<std::string> chosen;
  for (const Choice& choice : choices_for(model, s)) chosen.push_back(choice.slot.name);
  return chosen;
}

std::vector<QuantizedLayer> quantize_model(Transformer& model, const QuantizeSettings& s) {
  const std::vector<Choice> choices = choices_for(model, s);
  std::vector<CalibrationTarget> targets;
  for (const Choice& choice : choices) targets.push_back({choice.slot.name, method_for(choice.type, s).needs});
  std::vector<QuantizedLayer> layers(choices.size());
  calibrate(
      model, targets, s.method->behind, s.calibration, s.activations,
      [&](size_t i, const Measurement& measured) { layers[i] = quantize_weight(choices[i], s, measured); }, s.progress);
  return layers;
}

}  // namespace hone
