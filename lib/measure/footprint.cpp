#include "measure/footprint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/memory_limit.h"
#include "base/units.h"
#include "model/size.h"
#include "model/transformer.h"
#include "nn/encoders/encoder.h"
#include "tensor/pool.h"

namespace hone {
namespace {

// In doubles: no product of sizes that a user may type overflows.
double count(int64_t n) {
  return static_cast<double>(n);
}

double bytes_of(DType type) {
  return static_cast<double>(size_of(type));
}

std::vector<std::pair<double, const char*>> parts_of(const Footprint& f) {
  return {{f.parameters, "parameters"},   {f.optimizer, "gradients and optimizer"},
          {f.activations, "activations"}, {f.copies, "copies of the parameters"},
          {f.teacher, "the teacher"},     {f.cache, "key/value cache"}};
}

std::string text_of(const std::pair<double, const char*>& part) {
  return fmt::format("{} of {}", format_bytes(part.first), part.second);
}

}  // namespace

std::string describe(const Footprint& f) {
  std::string text;
  for (const auto& part : parts_of(f))
    if (part.first > 0) text += (text.empty() ? "" : ", ") + text_of(part);
  return fmt::format("{}: {}", format_bytes(f.total()), text);
}

namespace {

// Parameters, and what products in bf16 run on: panels of 64 rows, and the same of the transpose.
struct Masters : Reader {
  bool tied = false, bf16 = false;
  double bytes = 0;
  void weight(const ParameterInfo& info, const Weight& weight) override {
    if (!info.part.here()) return;
    const auto panels = [](int64_t rows, int64_t cols) {
      return pool_block_bytes(2 * std::ceil(count(rows) / 64) * 64 * count(cols));
    };
    bytes += pool_block_bytes(4 * count(weight.rows()) * count(weight.cols()));
    if (bf16 && (is_linear(info.role) || info.role == Role::encoder || tied))
      bytes += panels(weight.rows(), weight.cols()) + panels(weight.cols(), weight.rows());
  }
  void parameter(const ParameterInfo& info, const Parameter& parameter) override {
    if (info.part.here()) bytes += pool_block_bytes(4 * count(parameter.value.size()));
  }
};

double master_bytes(const Config& config, DType type, const ModelRanks& ranks) {
  const ShapesOnly shapes;
  const Transformer model(config, ranks);
  Masters masters;
  masters.tied = config.tied;
  masters.bf16 = type == DType::bf16;
  model.visit(masters);
  return masters.bytes;
}

}  // namespace

Footprint training_footprint(const Config& config, const TrainingShape& shape, double optimizer_bytes,
                             const ModelRanks& ranks) {
  Footprint f;
  f.parameters = master_bytes(config, shape.type, ranks);
  f.optimizer = optimizer_bytes;
  TrainingShape here = shape;
  here.expert_ranks = ranks.shares().experts.count;
  f.activations = activation_bytes(ranks.shape_of_one(config), here);
  return f;
}

Footprint generation_footprint(const Config& config, int64_t batch, int64_t capacity, int64_t rows, DType type,
                               kernels::CacheCode code) {
  double widest = 0;
  for (const LayerBlueprint& layer : config.layers) widest = std::max(widest, count(layer.ffn));
  for (const std::string& name : config.encoders)
    for (const LayerBlueprint& layer : encoder_layers(name, config.block)) widest = std::max(widest, count(layer.ffn));
  Footprint f;
  f.cache = cache_bytes(config, {.sequences = batch, .capacity = capacity, .type = type, .code = code});
  f.activations =
      count(batch) * count(std::min(rows, capacity)) * (4 + 4 * count(config.block.dim) + bytes_of(type) * widest);
  return f;
}

Footprint calibration_footprint(const Config& config, int64_t tokens, DType type, double weight_bytes) {
  Footprint f;
  f.parameters = weight_bytes;
  f.activations = count(tokens) * (4 + (4 + bytes_of(type)) * count(config.block.dim));
  return f;
}

void require_memory_for(const Footprint& footprint, const std::string& what, const std::string& help) {
  const auto parts = parts_of(footprint);
  require_memory(footprint.total(), what, help, text_of(*std::max_element(parts.begin(), parts.end())), true);
}

}  // namespace hone
