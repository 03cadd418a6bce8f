// Llama with a mixture in place of the feed-forward: Mixtral, Qwen2-MoE (a shared expert with a gate), Qwen3-MoE and
// OLMoE (norms over all heads).
#include <algorithm>

#include "base/error.h"
#include "exchange/architectures/llama_like.h"

namespace hone {
namespace {

using llama_like::Json;

// Weights of several experts may sum to 1; that of one alone is its probability.
void set_gates(const Settings& s, LayerBlueprint& mixture) {
  if (mixture.top_k > 1)
    mixture.normalized_gates = s.boolean("norm_topk_prob", false);
  else
    s.require("norm_topk_prob", false);
}

// Dense are the layers that mlp_only_layers names, and those between every decoder_sparse_step.
void set_mixtures(const Settings& s, const LayerBlueprint& mixture, Config& c) {
  const int64_t step = s.integer("decoder_sparse_step", 1);
  if (step < 1) throw input_error("{}: 'decoder_sparse_step' is {}", s.where(), step);
  const nlohmann::json dense = s.has("mlp_only_layers") ? s.json().at("mlp_only_layers") : nlohmann::json::array();
  if (!dense.is_array()) throw input_error("{}: 'mlp_only_layers' is no list", s.where());
  for (size_t i = 0; i < c.layers.size(); ++i)
    if ((static_cast<int64_t>(i) + 1) % step == 0 && std::find(dense.begin(), dense.end(), i) == dense.end())
      c.layers[i] = mixture;
}

Config read_qwen2_moe(const Settings& s) {
  Config c = llama_like::read_qwen(s);
  c.block.qkv_biases = s.boolean("qkv_bias", true);
  LayerBlueprint mixture = c.layers.front();
  mixture.ffn = s.integer("moe_intermediate_size", 1408);
  mixture.experts = s.integer("num_experts", 60);
  mixture.top_k = s.integer("num_experts_per_tok", 4);
  set_gates(s, mixture);
  const int64_t shared = s.integer("shared_expert_intermediate_size", 5632);
  if (mixture.ffn < 1 || shared < mixture.ffn || shared % mixture.ffn)
    throw s.lacks(fmt::format("a shared expert of width {}, which is not that of several experts ({} each)", shared,
                              mixture.ffn));
  mixture.shared_experts = shared / mixture.ffn;
  mixture.shared_gate = true;
  set_mixtures(s, mixture, c);
  return c;
}

Config read_qwen3_moe(const Settings& s) {
  Config c = llama_like::read_qwen3(s);
  LayerBlueprint mixture = c.layers.front();
  mixture.ffn = s.integer("moe_intermediate_size");
  mixture.experts = s.integer("num_experts", 128);
  mixture.top_k = s.integer("num_experts_per_tok", 8);
  set_gates(s, mixture);
  set_mixtures(s, mixture, c);
  return c;
}

Config read_olmoe(const Settings& s) {
  s.require("attention_bias", false);
  s.require("clip_qkv", nullptr);
  Config c = llama_like::read(s, 1e-5);
  LayerBlueprint layer = c.layers.front();
  set_dividing_heads(s, "hidden_size", "num_attention_heads", c.block, layer);
  layer.kv_heads = c.layers.front().kv_heads;
  layer.qk_norm = layer.qk_norm_whole = true;
  layer.experts = s.integer("num_experts", 64);
  layer.top_k = s.integer("num_experts_per_tok", 8);
  set_gates(s, layer);
  c.layers.assign(c.layers.size(), layer);
  return c;
}

Config read_mixtral(const Settings& s) {
  Config c = llama_like::read(s);
  llama_like::set_window(s, c);
  for (LayerBlueprint& layer : c.layers) {
    layer.experts = s.integer("num_local_experts");
    layer.top_k = s.integer("num_experts_per_tok");
    if (layer.top_k < 2) throw s.lacks("one expert a token, weighted by 1 ('num_experts_per_tok' of 1)");
  }
  return c;
}

// ---- back ----

Json write_mixtral(const Config& c) {
  const LayerBlueprint& l = c.layers.front();
  Obstacles obstacles;
  require_usual_mixture(l, obstacles);
  obstacles.require(l.experts == 0 || l.top_k >= 2, "one expert a token");  // that there are none is said with all else
  const Json window = llama_like::window_of(c, obstacles);
  Expressible can = llama_like::says();
  can.experts = true;
  Json json = llama_like::write(c, "mixtral", "MixtralForCausalLM", can, obstacles);
  json["sliding_window"] = window;
  json["num_local_experts"] = l.experts;
  json["num_experts_per_tok"] = l.top_k;
  return json;
}

// Layers with experts are alike, and so are those without. What such a mixture must be is of `require`; throws what
// `obstacles` have, too.
Json write_qwen_moe(const Config& c, const char* type, const char* class_name, Expressible can,
                    void (*require)(const LayerBlueprint& mixture, Obstacles& obstacles), Obstacles obstacles) {
  llama_like::require_no_window(c, obstacles);
  Config dense = c, mixtures = c;
  std::erase_if(dense.layers, [](const LayerBlueprint& l) { return l.experts > 0; });
  std::erase_if(mixtures.layers, [](const LayerBlueprint& l) { return l.experts == 0; });
  if (!dense.layers.empty()) require_expressible(dense, can, obstacles);
  can.experts = true;
  if (mixtures.layers.empty()) {
    obstacles.require(false, "layers without experts");
    obstacles.refuse("", "; ");
  }
  const LayerBlueprint l = mixtures.layers.front();
  require(l, obstacles);
  if (!dense.layers.empty()) {
    LayerBlueprint attends = l;
    attends.ffn = dense.layers.front().ffn, attends.experts = attends.top_k = attends.shared_experts = 0;
    attends.normalized_gates = true, attends.shared_gate = false, attends.router = RouterKind::softmax;
    obstacles.require(attends == dense.layers.front(), "layers that differ");
  }
  can.any_gates = true;
  Json json = llama_like::write(mixtures, type, class_name, can, obstacles), only = Json::array();
  for (size_t i = 0; i < c.layers.size(); ++i)
    if (c.layers[i].experts == 0) only.push_back(i);
  json["intermediate_size"] = dense.layers.empty() ? l.ffn : dense.layers.front().ffn;
  json["num_hidden_layers"] = c.layers.size();
  json["use_sliding_window"] = false;
  json["moe_intermediate_size"] = l.ffn;
  json["num_experts"] = l.experts;
  json["num_experts_per_tok"] = l.top_k;
  json["norm_topk_prob"] = l.top_k > 1 && l.normalized_gates;
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = only;
  return json;
}

Json write_qwen2_moe(const Config& c) {
  Expressible can = llama_like::says();
  can.qkv_biases = c.block.qkv_biases;
  const auto require = [](const LayerBlueprint& l, Obstacles& o) { require_usual_mixture(l, o, true); };
  Obstacles obstacles;
  obstacles.require(c.block.head_dim * c.layers.front().heads == c.block.dim,
                    "heads of another width than dim / heads");
  Json json = write_qwen_moe(c, "qwen2_moe", "Qwen2MoeForCausalLM", can, require, obstacles);
  json.erase("head_dim");
  json["qkv_bias"] = c.block.qkv_biases;
  const auto mixture = std::ranges::find_if(c.layers, [](const LayerBlueprint& l) { return l.experts > 0; });
  json["shared_expert_intermediate_size"] = mixture->shared_experts * mixture->ffn;
  return json;
}

Json write_qwen3_moe(const Config& c) {
  Expressible can = llama_like::says();
  can.qk_norm = true;
  const auto require = [](const LayerBlueprint& l, Obstacles& o) { require_usual_mixture(l, o); };
  Json json = write_qwen_moe(c, "qwen3_moe", "Qwen3MoeForCausalLM", can, require, {});
  json["attention_bias"] = false;
  return json;
}

Json write_olmoe(const Config& c) {
  const LayerBlueprint& l = c.layers.front();
  Obstacles obstacles;
  llama_like::require_no_window(c, obstacles);
  require_usual_mixture(l, obstacles);
  obstacles.require(c.block.head_dim * l.heads == c.block.dim, "heads of another width than dim / heads");
  Expressible can = llama_like::says();
  can.qk_norm = can.qk_norm_whole = can.experts = can.any_gates = true;
  Json json = llama_like::write(c, "olmoe", "OlmoeForCausalLM", can, obstacles);
  json.erase("head_dim");
  json["attention_bias"] = false;
  json["clip_qkv"] = nullptr;
  json["num_experts"] = l.experts;
  json["num_experts_per_tok"] = l.top_k;
  json["norm_topk_prob"] = l.top_k > 1 && l.normalized_gates;
  return json;
}

}  // namespace

Architecture qwen2_moe_architecture() {
  return llama_like::architecture<llama_like::qwen_experts>("qwen2_moe", read_qwen2_moe, write_qwen2_moe,
                                                            &qwen2_moe_gguf);
}
Architecture qwen3_moe_architecture() {
  return llama_like::architecture<llama_like::qwen_experts>("qwen3_moe", read_qwen3_moe, write_qwen3_moe,
                                                            &qwen3_moe_gguf);
}
Architecture olmoe_architecture() {
  return llama_like::architecture<llama_like::qwen_experts>("olmoe", read_olmoe, write_olmoe, &olmoe_gguf);
}
Architecture mixtral_architecture() {
  return llama_like::architecture("mixtral", read_mixtral, write_mixtral);
}

}  // namespace hone
