#include "exchange/architecture.h"

#include <algorithm>

#include "base/error.h"
#include "base/spelling.h"
#include "media/medium.h"
#include "nn/mixer.h"

namespace hone {

// Each in a file of architectures/.
Architecture llama_architecture();
Architecture mistral_architecture();
Architecture qwen2_architecture();
Architecture qwen3_architecture();
Architecture mixtral_architecture();
Architecture qwen2_moe_architecture();
Architecture qwen3_moe_architecture();
Architecture olmoe_architecture();
Architecture gpt2_architecture();
Architecture neox_architecture();

const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> table = {
      llama_architecture(),   mistral_architecture(),   qwen2_architecture(),     qwen3_architecture(),
      mixtral_architecture(), qwen2_moe_architecture(), qwen3_moe_architecture(), olmoe_architecture(),
      gpt2_architecture(),    neox_architecture()};
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

void express(bool good, std::string_view what) {
  if (!good) throw usage_error("{}", what);
}

std::vector<LayerBlueprint> layers_alike(const LayerBlueprint& layer, int64_t count, const std::string& where,
                                         const std::string& name) {
  if (count < 1 || count > 4096) throw input_error("{}: '{}' is {}", where, name, count);
  return std::vector<LayerBlueprint>(static_cast<size_t>(count), layer);
}

void set_dividing_heads(const Settings& settings, const char* dim_name, const char* heads_name, BlockBlueprint& block,
                        LayerBlueprint& layer) {
  layer.heads = layer.kv_heads = settings.integer(heads_name);
  if (layer.heads < 1 || block.dim % layer.heads)
    throw input_error("{}: '{}' {} is no multiple of '{}' {}", settings.where(), dim_name, block.dim, heads_name,
                      layer.heads);
  block.head_dim = block.dim / layer.heads;
}

namespace {

void require_block(const BlockBlueprint& b, const LayerBlueprint& l, const Expressible& can, Obstacles& obstacles) {
  const auto express = [&](bool good, std::string_view what) { obstacles.require(good, std::string(what)); };
  express(b.norm == can.norm, info_of(b.norm).name);
  const bool active = std::ranges::find(can.activations, b.activation) != can.activations.end();
  express(active, info_of(b.activation).what);
  express(b.positions == can.positions, info_of(b.positions).what);
  express(b.biases == can.biases, b.biases ? "biases of all layers" : "layers without biases");
  if (!b.biases)
    express(b.qkv_biases == can.qkv_biases,
            b.qkv_biases ? "biases of queries, keys and values" : "queries, keys and values without biases");
  express(l.qk_norm == can.qk_norm, l.qk_norm ? "norms of queries and keys" : "queries and keys without norms");
  if (l.qk_norm)
    express(l.qk_norm_whole == can.qk_norm_whole, l.qk_norm_whole ? "norms of queries and keys over all heads together"
                                                                  : "norms of queries and keys head by head");
  express(l.score.empty(), fmt::format("scores of attention as '{}' makes them", l.score));
  express((l.experts > 0) == can.experts, l.experts > 0 ? "mixtures of experts" : "layers without experts");
  express(can.any_gates || l.normalized_gates || l.top_k < 2, "chosen experts whose weights do not sum to 1");
  express(can.any_heads || (l.heads == l.kv_heads && l.heads * b.head_dim == b.dim),
          "heads that share keys, or of another width than dim / heads");
  express(attends(l.attention), "layers that mix tokens without attention");
  express(can.any_attention || l.attention == "full", "attention that is not full");
  express(can.parallel || !b.parallel, "parallel halves of layers");
  express(can.turns_in_part || b.rotary_dim == 0 || b.rotary_dim == b.head_dim, "heads that turn in part");
  express(can.rope_scaling || b.rope_scaling.kind == RopeScaling::Kind::none, "rotary scaling");
  express(l.mixes() && l.feeds(), "layers without attention or feed-forward");
}

}  // namespace

void require_expressible(const Config& config, const Expressible& can, Obstacles& obstacles) {
  const LayerBlueprint& layer = config.layers.front();
  require_block(config.block, layer, can, obstacles);
  for (const LayerBlueprint& other : config.layers) {
    obstacles.require(other.depth_fraction == 0, "layers that only some tokens go through");
    obstacles.require(!other.exit, "exits behind layers");
    obstacles.require(other == layer, "layers that differ");
  }
  obstacles.require(config.encoders.empty(), fmt::format("encoders of {}", each_of(media_words(&Medium::plural))));
  obstacles.require(config.logit_softcap == 0, "a soft cap of logits");
}

const LayerBlueprint& require_expressible(const Config& config, const Expressible& can) {
  Obstacles obstacles;
  require_expressible(config, can, obstacles);
  obstacles.refuse("", "; ");
  return config.layers.front();
}

void require_usual_mixture(const LayerBlueprint& layer, Obstacles& obstacles, bool gated) {
  if (layer.experts == 0) return;
  if (gated)
    obstacles.require(layer.shared_gate,
                      layer.shared_experts > 0 ? "shared experts without a gate" : "mixtures without shared experts");
  else
    obstacles.require(layer.shared_experts == 0, "shared experts");
  obstacles.require(layer.router == RouterKind::softmax, "sigmoid routers");
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
