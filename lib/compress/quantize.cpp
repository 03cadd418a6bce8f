#include "compress/quantize.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/kind_name.h"
#include "base/stop.h"
#include "tensor/pages.h"
#include "weights/dense_weight.h"
#include "weights/packed_weight.h"

namespace hone {
namespace {

PackedType type_for(const NamedWeight& weight, const QuantizeSettings& s) {
  for (const auto& [pattern, type] : s.overrides)
    if (std::regex_search(weight.name, pattern)) return type;
  if (weight.role == Role::encoder) return {};  // small, and what follows depends on it: stays as it is
  return is_linear(weight.role) && weight.role != Role::head ? s.type : s.embedding;
}

bool quantized(const Weight& weight) {
  return weight.element() != "f32";
}

struct Choice {
  NamedWeight weight;
  PackedType type;
  int64_t group;
  double sparsity = 0;

  LayerType as_layer() const { return {weight.name, *type, group, sparsity}; }
};

Choice choice_for(const NamedWeight& weight, const QuantizeSettings& s) {
  for (const LayerType& own : s.layer_types)
    if (own.name == weight.name) return {weight, own.element, own.group, own.sparsity};
  const PackedType type = type_for(weight, s);
  return {weight, type, has_scales(type) ? s.group : 0};
}

std::vector<Choice> choices_for(const Transformer& model, const QuantizeSettings& s) {
  std::vector<Choice> choices;
  for (const NamedWeight& named : named_weights(model)) {
    const Choice choice = choice_for(named, s);
    if (!choice.type) continue;
    if (quantized(*named.weight) && !s.allow_requantize)
      throw AlreadyQuantized(ErrorKind::usage, fmt::format("'{}' is {} already; quantize the model it was made from",
                                                           named.name, named.weight->element()));
    choices.push_back(choice);
  }
  if (choices.empty()) throw usage_error("the options leave no weight to quantize");
  std::stable_partition(choices.begin(), choices.end(),
                        [](const Choice& choice) { return is_linear(choice.weight.role); });
  return choices;
}

std::vector<LayerType> types_of(const std::vector<Choice>& choices) {
  std::vector<LayerType> types;
  for (const Choice& choice : choices) types.push_back(choice.as_layer());
  return types;
}

const RoundMethod& method_for(PackedType type, const QuantizeSettings& s) {
  return has_scales(type) || s.method->without_scales ? *s.method : round_method("rtn");
}

// `slot`: of the choice.
QuantizedLayer quantize_weight(const Choice& choice, std::shared_ptr<Weight>& slot, const QuantizeSettings& s,
                               const Measurement& measured) {
  check_stop();
  const LayerType wanted = choice.as_layer();
  const std::shared_ptr<Weight> before = pruned_weight(wanted, slot, s, measured);
  const Tensor dense = before->to_dense();
  const Bitmask mask = before->mask();
  QuantizedLayer layer;
  layer.name = choice.weight.name;
  layer.type = choice.type;
  layer.group = choice.group;
  if (mask) layer.sparsity = mask.sparsity();
  layer.bytes_before = quantized(*slot) ? slot->stored_bytes() : dense.size() * 4;
  layer.calibration_tokens = measured.tokens;
  layer.data_free = measured.data_free;
  layer.dampened = measured.dampened;
  const PackedRounding rounded = rounded_weight(wanted, dense, mask, s, measured);
  layer.relative_error = rounded.relative_error;
  slot = rounded.weight;
  layer.form = slot->form();
  layer.bytes = slot->stored_bytes();
  let_go(dense);
  if (s.keep) slot = s.keep(slot);
  return layer;
}

}  // namespace

const std::vector<std::string>& packed_type_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const kernels::ElementInfo& element : kernels::element_table) all.emplace_back(element.name);
    all.emplace_back("keep");
    return all;
  }();
  return names;
}

PackedType packed_type_named(const std::string& name) {
  if (name == "keep") return std::nullopt;
  if (const PackedType type = kernels::find_element(name)) return type;
  throw unknown_name("type", name, packed_type_names());
}

std::string name_of(PackedType type) {
  return std::string(type ? kernels::info_of(*type).name : "keep");
}

bool has_scales(PackedType type) {
  return type && kernels::info_of(*type).scaled;
}

std::vector<std::string> weights_to_quantize(const Transformer& model, const QuantizeSettings& s) {
  std::vector<std::string> chosen;
  for (const Choice& choice : choices_for(model, s)) chosen.push_back(choice.weight.name);
  return chosen;
}

CalibrationTarget rounding_target(const std::string& name, PackedType type, bool pruned, const QuantizeSettings& s) {
  const RoundMethod& method = method_for(type, s);
  CalibrationTarget target{name, method.needs, method.dampens};
  if (!pruned) return target;
  for (const StatisticKind& kind : s.prune->needs()) {
    std::erase(target.needs, kind);
    target.needs.push_back(kind);
  }
  target.dampens = true;
  return target;
}

std::shared_ptr<Weight> pruned_weight(const LayerType& layer, std::shared_ptr<Weight> weight, const QuantizeSettings& s,
                                      const Measurement& measured) {
  if (layer.sparsity == 0) return weight;
  PruneSettings settings = *s.prune;
  settings.sparsity = layer.sparsity;
  prune_weight(layer.name, weight, settings, measured);
  return weight;
}

PackedRounding rounded_weight(const LayerType& layer, const Tensor& dense, const Bitmask& mask,
                              const QuantizeSettings& s, const Measurement& measured) {
  const RoundMethod& method = method_for(layer.element, s);
  // Where the pruning makes something of few tokens, and this does not.
  const InputStatistics* inputs =
      measured.inputs && (method.dampens || measured.inputs->sufficient()) ? measured.inputs : nullptr;
  const RoundedWeight rounded = method.run({layer.name, dense, mask, inputs, layer.element, layer.group, s.number});
  return {has_scales(layer.element) ? pack_integers(rounded.matrix) : pack_numbers(layer.element, rounded.values, mask),
          rounded.relative_error};
}

std::vector<QuantizedLayer> quantize_model(Transformer& model, const QuantizeSettings& s) {
  const std::vector<Choice> choices = choices_for(model, s);
  std::vector<std::string> names;
  std::vector<CalibrationTarget> targets;
  bool prunes = false;
  for (const Choice& choice : choices) {
    names.push_back(choice.weight.name);
    targets.push_back(rounding_target(choice.weight.name, choice.type, choice.sparsity > 0, s));
    prunes |= choice.sparsity > 0;
  }
  std::map<std::string, std::map<std::string, double>> prepared;  // of a weight
  const std::vector<LayerType> types = types_of(choices);
  if (s.calibration)
    for (const Preparation* row : s.prepare)
      for (const auto& [layer, number] : row->run({model, types, s.method->searches, *s.calibration, s.activations}))
        prepared[layer][std::string(row->number)] = number;
  const std::vector<WeightSlot> slots = weight_slots(model, names);
  std::vector<QuantizedLayer> layers(choices.size());
  calibrate(
      model, targets, prunes ? MeasuredBehind::layers : s.method->behind, s.calibration, s.activations,
      [&](size_t i, const Measurement& measured) {
        layers[i] = quantize_weight(choices[i], *slots[i].weight, s, measured);
      },
      s.progress);
  for (QuantizedLayer& layer : layers) layer.prepared = prepared[layer.name];
  return layers;
}

}  // namespace hone
