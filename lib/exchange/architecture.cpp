#include "exchange/architecture.h"

#include "base/error.h"
#include "exchange/architectures/table.h"

namespace hone {

const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> table = {llama_architecture(),   mistral_architecture(), qwen2_architecture(),
                                                  mixtral_architecture(), gpt2_architecture(),    neox_architecture()};
  return table;
}

std::string architecture_names() {
  std::string names;
  for (const Architecture& a : architectures()) names += fmt::format("{}{}", names.empty() ? "" : ", ", a.name);
  return names;
}

const Architecture* find_architecture(std::string_view name) {
  for (const Architecture& a : architectures())
    if (a.name == name) return &a;
  return nullptr;
}

const Architecture& architecture_of(const Settings& settings) {
  const std::string name = settings.text("model_type");
  if (const Architecture* found = find_architecture(name)) return *found;
  throw input_error("{}: the architecture '{}' is not read; read are {}", settings.where(), name, architecture_names());
}

std::string within_block(const ParameterInfo& info) {
  if (info.layer < 0) return info.name;
  return info.name.substr(fmt::format("blocks.{}.", info.layer).size());
}

void express(bool good, const char* what) {
  if (!good) throw usage_error("{}", what);
}

const LayerBlueprint& uniform_layer(const Config& config) {
  for (const LayerBlueprint& layer : config.layers) {
    express(layer.depth_fraction == 0, "layers that only some tokens go through");
    express(layer == config.layers.front(), "layers that differ");
  }
  const LayerBlueprint& layer = config.layers.front();
  express(layer.mixes() && layer.feeds(), "layers without attention or feed-forward");
  return layer;
}

std::vector<int64_t> rows_of_neighbours(int64_t heads, int64_t head_dim) {
  std::vector<int64_t> rows;
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t c = 0; c < head_dim; ++c) {
      const int64_t half = head_dim / 2;
      rows.push_back(h * head_dim + (c < half ? 2 * c : 2 * (c - half) + 1));
    }
  return rows;
}

}  // namespace hone
