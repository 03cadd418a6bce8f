#include "compress/quantize.h"

#include <fmt/ranges.h>

#include <map>

#include "base/error.h"
#include "base/stop.h"
#include "weights/dense_weight.h"
#include "weights/packed_weight.h"

namespace hone {
namespace {

PackedType type_for(const WeightSlot& slot, const QuantizeSettings& s) {
  for (const auto& [pattern, type] : s.overrides)
    if (std::regex_search(slot.name, pattern)) return type;
  return is_linear(slot.role) && slot.role != Role::head ? s.type : s.embedding;
}

bool quantized(const Weight& weight) {
  return weight.element() != "f32";
}

using Plan = std::map<std::string, std::pair<std::shared_ptr<Weight>*, PackedType>>;

Plan plan_for(Transformer& model, const QuantizeSettings& s) {
  Plan plan;
  for (const WeightSlot& slot : weight_slots(model)) {
    const PackedType type = type_for(slot, s);
    if (!type) continue;
    if (quantized(**slot.weight) && !s.allow_requantize)
      throw usage_error("'{}' is {} already; quantize the model it was made from, or add --allow-requantize", slot.name,
                        (*slot.weight)->element());
    plan[slot.name] = {slot.weight, type};
  }
  if (plan.empty()) throw usage_error("the options leave no weight to quantize");
  return plan;
}

double bf16_error(const Tensor& dense) {
  double error = 0, norm = 0;
  for (const float w : dense.span<float>()) {
    const double d = static_cast<double>(to_float(to_bf16(w)) - w);
    error += d * d;
    norm += static_cast<double>(w) * static_cast<double>(w);
  }
  return norm > 0 ? error / norm : 0;
}

QuantizedLayer pack(const std::string& name, std::shared_ptr<Weight>& slot, PackedType type, const QuantizeSettings& s,
                    const ColumnMoments* moments) {
  check_stop();
  const Tensor dense = slot->to_dense();
  const Bitmask mask = slot->mask();
  QuantizedLayer layer{name, type, "", 0, 0, dense.size() * 4, 0, {}, false};
  if (moments && has_scales(type)) {
    layer.calibration_tokens = moments->tokens;
    layer.data_free = !moments->sufficient(dense.dim(1));
    if (layer.data_free) moments = nullptr;
  }
  if (quantized(*slot)) layer.bytes_before = slot->stored_bytes();
  if (!has_scales(type)) {
    layer.relative_error = bf16_error(dense);
    slot = pack_bf16(dense, mask);
  } else {
    QuantizeOptions options;
    options.element = *type;
    options.group = layer.group = s.group;
    const std::vector<float> weights = moments ? moments->means() : std::vector<float>();
    const QuantizedMatrix matrix = quantize_matrix(dense, options, name, weights, mask);
    layer.relative_error = quantization_error(dense, matrix, weights).relative();
    slot = pack_integers(matrix);
  }
  layer.form = slot->form();
  layer.bytes = slot->stored_bytes();
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
  throw usage_error("unknown type '{}'; known: {}", name, fmt::join(packed_type_names(), ", "));
}

std::string name_of(PackedType type) {
  return std::string(type ? kernels::info_of(*type).name : "keep");
}

bool has_scales(PackedType type) {
  return type && kernels::info_of(*type).scaled();
}

std::vector<std::string> weights_to_quantize(Transformer& model, const QuantizeSettings& s) {
  std::vector<std::string> chosen;
  for (const auto& [name, what] : plan_for(model, s)) chosen.push_back(name);
  return chosen;
}

std::vector<QuantizedLayer> quantize_model(Transformer& model, const QuantizeSettings& s) {
  Plan plan = plan_for(model, s);
  std::vector<QuantizedLayer> layers;
  const auto convert = [&](const std::string& name, const ColumnMoments* moments) {
    const auto found = plan.find(name);
    if (found == plan.end()) return;
    layers.push_back(pack(name, *found->second.first, found->second.second, s, moments));
    plan.erase(found);
  };
  calibrate(
      model, s.calibration, s.activations,
      [&](const std::vector<std::string>& part, const Moments& moments) {
        for (const std::string& name : part) {
          const auto found = moments.find(name);
          convert(name, found == moments.end() ? nullptr : &found->second);
        }
      },
      s.progress);
  convert("embedding.weight", nullptr);  // of an untied model: no product enters it
  return layers;
}

}  // namespace hone
