#include "compress/quantize.h"

#include <fmt/ranges.h>

#include <array>
#include <map>

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
    if (type == PackedType::keep) continue;
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
  const Tensor dense = slot->to_dense(), mask = slot->mask();
  QuantizedLayer layer{name, type, "", 0, 0, dense.size() * 4, 0, {}, false};
  if (moments && type != PackedType::bf16) {
    layer.calibration_tokens = moments->tokens;
    layer.data_free = !moments->sufficient(dense.dim(1));
    if (layer.data_free) moments = nullptr;
  }
  if (quantized(*slot)) layer.bytes_before = slot->stored_bytes();
  if (type == PackedType::bf16) {
    layer.relative_error = bf16_error(dense);
    slot = pack_bf16(dense, mask);
  } else {
    QuantizeOptions options;
    options.bits = type == PackedType::int8 ? 8 : 4;
    options.group = layer.group = s.group;
    const std::vector<float> weights = moments ? moments->means() : std::vector<float>();
    const QuantizedMatrix matrix = quantize_matrix(dense, options, name, weights, mask);
    layer.relative_error = quantization_error(dense, matrix, weights).relative();
    slot = type == PackedType::int8 ? pack_int8(matrix) : pack_int4(matrix);
  }
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
