// Llama and those built like it: Mistral (window), Qwen2 (biases of queries, keys and values), Qwen3 (norms of their
// heads), Mixtral and Qwen3-MoE (experts), OLMoE (experts, norms over all heads).
// Public definitions: the model code and config.json of each in huggingface/transformers.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "exchange/architectures/llama_gguf.h"

namespace hone {
namespace {

using Json = nlohmann::ordered_json;

// `rope_scaling`, or `rope_parameters` with the base in it, as versions 5 of transformers write it.
void read_rope(const Settings& s, BlockBlueprint& b) {
  b.rope_theta = s.number("rope_theta", 10000);
  const char* name = s.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!s.has(name)) return;
  const Settings scaling = s.object(name);
  b.rope_theta = scaling.number("rope_theta", b.rope_theta);
  const std::string kind = scaling.text("rope_type", scaling.text("type", "default"));
  if (kind == "default") return;
  RopeScaling& r = b.rope_scaling;
  if (kind == "linear") {
    r.kind = RopeScaling::Kind::linear;
  } else if (kind == "llama3") {
    r.kind = RopeScaling::Kind::llama3;
    r.low = scaling.number("low_freq_factor");
    r.high = scaling.number("high_freq_factor");
    r.context = scaling.integer("original_max_position_embeddings");
  } else {
    throw s.lacks(fmt::format("rotary scaling of the kind '{}' (only linear and llama3)", kind));
  }
  r.factor = scaling.number("factor");
}

Config read_common(const Settings& s, double epsilon = 1e-6) {
  Config c;
  BlockBlueprint& b = c.block;
  s.require("hidden_act", "silu");
  s.require("mlp_bias", false);
  c.vocabulary = c.padded_vocabulary = s.integer("vocab_size");
  c.context = s.integer("max_position_embeddings", 2048);
  c.tied = s.boolean("tie_word_embeddings", false);
  b.dim = s.integer("hidden_size");
  b.norm_epsilon = static_cast<float>(s.number("rms_norm_eps", epsilon));
  read_rope(s, b);
  LayerBlueprint layer;
  layer.heads = s.integer("num_attention_heads");
  layer.kv_heads = s.integer("num_key_value_heads", layer.heads);
  layer.ffn = s.integer("intermediate_size");
  if (layer.heads < 1) throw input_error("{}: 'num_attention_heads' is {}", s.where(), layer.heads);
  b.head_dim = s.integer("head_dim", b.dim / layer.heads);
  c.layers = layers_alike(layer, s.integer("num_hidden_layers"), s.where(), "num_hidden_layers");
  return c;
}

void set_window(const Settings& s, Config& c) {
  if (!s.has("sliding_window")) return;
  const int64_t size = s.integer("sliding_window");
  if (size < 1) throw input_error("{}: 'sliding_window' is {}", s.where(), size);
  if (size >= c.context) return;
  for (LayerBlueprint& layer : c.layers) layer.attention = fmt::format("window:{}", size);
}

Config read_llama(const Settings& s) {
  s.require("attention_bias", false);
  return read_common(s);
}

Config read_mistral(const Settings& s) {
  Config c = read_common(s);
  set_window(s, c);
  return c;
}

Config read_qwen(const Settings& s) {
  s.require("use_sliding_window", false);
  if (s.has("layer_types"))
    for (const auto& type : s.json().at("layer_types"))
      if (type != "full_attention") throw s.lacks(fmt::format("layers of the type {}", type.dump()));
  return read_common(s);
}

Config read_qwen2(const Settings& s) {
  Config c = read_qwen(s);
  c.block.qkv_biases = true;
  return c;
}

Config read_qwen3(const Settings& s) {
  s.require("attention_bias", false);
  Config c = read_qwen(s);
  c.block.head_dim = s.integer("head_dim", 128);
  for (LayerBlueprint& layer : c.layers) layer.qk_norm = true;
  return c;
}

// Weights of several experts may sum to 1; that of one alone is its probability.
void set_gates(const Settings& s, LayerBlueprint& mixture) {
  if (mixture.top_k > 1)
    mixture.normalized_gates = s.boolean("norm_topk_prob", false);
  else
    s.require("norm_topk_prob", false);
}

// Dense are the layers that mlp_only_layers names, and those between every decoder_sparse_step.
Config read_qwen3_moe(const Settings& s) {
  Config c = read_qwen3(s);
  LayerBlueprint mixture = c.layers.front();
  mixture.ffn = s.integer("moe_intermediate_size");
  mixture.experts = s.integer("num_experts", 128);
  mixture.top_k = s.integer("num_experts_per_tok", 8);
  set_gates(s, mixture);
  const int64_t step = s.integer("decoder_sparse_step", 1);
  if (step < 1) throw input_error("{}: 'decoder_sparse_step' is {}", s.where(), step);
  const nlohmann::json dense = s.has("mlp_only_layers") ? s.json().at("mlp_only_layers") : nlohmann::json::array();
  if (!dense.is_array()) throw input_error("{}: 'mlp_only_layers' is no list", s.where());
  for (size_t i = 0; i < c.layers.size(); ++i)
    if ((static_cast<int64_t>(i) + 1) % step == 0 && std::find(dense.begin(), dense.end(), i) == dense.end())
      c.layers[i] = mixture;
  return c;
}

Config read_olmoe(const Settings& s) {
  s.require("attention_bias", false);
  s.require("clip_qkv", nullptr);
  Config c = read_common(s, 1e-5);
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
  Config c = read_common(s);
  set_window(s, c);
  for (LayerBlueprint& layer : c.layers) {
    layer.experts = s.integer("num_local_experts");
    layer.top_k = s.integer("num_experts_per_tok");
    if (layer.top_k < 2) throw s.lacks("one expert a token, weighted by 1 ('num_experts_per_tok' of 1)");
  }
  return c;
}

// ---- back ----

Expressible llama_says() {
  return {.any_heads = true, .any_attention = true, .rope_scaling = true};  // windows: window_of()
}

// Throws what `obstacles` have with what is added here.
Json write_common(const Config& c, const char* type, const char* class_name, const Expressible& can,
                  Obstacles obstacles) {
  const BlockBlueprint& b = c.block;
  const LayerBlueprint& l = c.layers.front();
  require_expressible(c, can, obstacles);
  obstacles.refuse("", "; ");
  Json json = {{"architectures", {class_name}},
               {"model_type", type},
               {"hidden_act", "silu"},
               {"vocab_size", c.padded_vocabulary},
               {"max_position_embeddings", c.context},
               {"hidden_size", b.dim},
               {"intermediate_size", l.ffn},
               {"num_hidden_layers", c.layers.size()},
               {"num_attention_heads", l.heads},
               {"num_key_value_heads", l.kv_heads},
               {"head_dim", b.head_dim},
               {"rms_norm_eps", std::stod(fmt::format("{}", b.norm_epsilon))},
               {"rope_theta", b.rope_theta},
               {"tie_word_embeddings", c.tied}};
  const RopeScaling& r = b.rope_scaling;
  if (r.kind == RopeScaling::Kind::linear) json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", r.factor}};
  if (r.kind == RopeScaling::Kind::llama3)
    json["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", r.factor},
                            {"low_freq_factor", r.low},
                            {"high_freq_factor", r.high},
                            {"original_max_position_embeddings", r.context}};
  return json;
}

// The size of a window, or null for full attention, and where there is another.
Json window_of(const Config& c, Obstacles& obstacles) {
  const std::string& kind = c.layers.front().attention;
  if (kind == "full" || !attends(kind)) return nullptr;  // what does not attend is said of the layer
  const std::string start = "window:";
  const bool window = kind.starts_with(start) && kind.find(':', start.size()) == kind.npos;
  obstacles.require(window, fmt::format("attention of the kind '{}'", kind));
  return window ? Json(std::stoll(kind.substr(start.size()))) : Json();
}

void require_no_window(const Config& c, Obstacles& obstacles) {
  obstacles.require(window_of(c, obstacles).is_null(), "windows of attention");
}

Json write_llama(const Config& c) {
  Obstacles obstacles;
  require_no_window(c, obstacles);
  Json json = write_common(c, "llama", "LlamaForCausalLM", llama_says(), obstacles);
  json["attention_bias"] = false;
  json["mlp_bias"] = false;
  return json;
}

Json write_mistral(const Config& c) {
  Obstacles obstacles;
  const Json window = window_of(c, obstacles);
  Json json = write_common(c, "mistral", "MistralForCausalLM", llama_says(), obstacles);
  json["sliding_window"] = window;
  return json;
}

Json write_qwen2(const Config& c) {
  Obstacles obstacles;
  require_no_window(c, obstacles);
  obstacles.require(c.block.head_dim * c.layers.front().heads == c.block.dim,
                    "heads of another width than dim / heads");
  Expressible can = llama_says();
  can.qkv_biases = true;
  Json json = write_common(c, "qwen2", "Qwen2ForCausalLM", can, obstacles);
  json["use_sliding_window"] = false;
  return json;
}

Json write_qwen3(const Config& c) {
  Obstacles obstacles;
  require_no_window(c, obstacles);
  Expressible can = llama_says();
  can.qk_norm = true;
  Json json = write_common(c, "qwen3", "Qwen3ForCausalLM", can, obstacles);
  json["attention_bias"] = false;
  json["use_sliding_window"] = false;
  return json;
}

Json write_mixtral(const Config& c) {
  const LayerBlueprint& l = c.layers.front();
  Obstacles obstacles;
  require_usual_mixture(l, obstacles);
  obstacles.require(l.experts == 0 || l.top_k >= 2, "one expert a token");  // that there are none is said with all else
  const Json window = window_of(c, obstacles);
  Expressible can = llama_says();
  can.experts = true;
  Json json = write_common(c, "mixtral", "MixtralForCausalLM", can, obstacles);
  json["sliding_window"] = window;
  json["num_local_experts"] = l.experts;
  json["num_experts_per_tok"] = l.top_k;
  return json;
}

// Layers with experts are alike, and so are those without.
Json write_qwen3_moe(const Config& c) {
  Obstacles obstacles;
  require_no_window(c, obstacles);
  Config dense = c, mixtures = c;
  std::erase_if(dense.layers, [](const LayerBlueprint& l) { return l.experts > 0; });
  std::erase_if(mixtures.layers, [](const LayerBlueprint& l) { return l.experts == 0; });
  Expressible can = llama_says();
  can.qk_norm = true;
  if (!dense.layers.empty()) require_expressible(dense, can, obstacles);
  can.experts = true;
  if (mixtures.layers.empty()) {
    obstacles.require(false, "layers without experts");
    obstacles.refuse("", "; ");
  }
  const LayerBlueprint l = mixtures.layers.front();
  require_usual_mixture(l, obstacles);
  if (!dense.layers.empty()) {
    LayerBlueprint attends = dense.layers.front();
    attends.ffn = l.ffn, attends.experts = l.experts, attends.top_k = l.top_k;
    attends.normalized_gates = l.normalized_gates;
    obstacles.require(attends == l, "layers that differ");
  }
  can.any_gates = true;
  Json json = write_common(mixtures, "qwen3_moe", "Qwen3MoeForCausalLM", can, obstacles), only = Json::array();
  for (size_t i = 0; i < c.layers.size(); ++i)
    if (c.layers[i].experts == 0) only.push_back(i);
  json["intermediate_size"] = dense.layers.empty() ? l.ffn : dense.layers.front().ffn;
  json["num_hidden_layers"] = c.layers.size();
  json["attention_bias"] = false;
  json["use_sliding_window"] = false;
  json["moe_intermediate_size"] = l.ffn;
  json["num_experts"] = l.experts;
  json["num_experts_per_tok"] = l.top_k;
  json["norm_topk_prob"] = l.top_k > 1 && l.normalized_gates;
  json["decoder_sparse_step"] = 1;
  json["mlp_only_layers"] = only;
  return json;
}

Json write_olmoe(const Config& c) {
  const LayerBlueprint& l = c.layers.front();
  Obstacles obstacles;
  require_no_window(c, obstacles);
  require_usual_mixture(l, obstacles);
  obstacles.require(c.block.head_dim * l.heads == c.block.dim, "heads of another width than dim / heads");
  Expressible can = llama_says();
  can.qk_norm = can.qk_norm_whole = can.experts = can.any_gates = true;
  Json json = write_common(c, "olmoe", "OlmoeForCausalLM", can, obstacles);
  json.erase("head_dim");
  json["attention_bias"] = false;
  json["clip_qkv"] = nullptr;
  json["num_experts"] = l.experts;
  json["num_experts_per_tok"] = l.top_k;
  json["norm_topk_prob"] = l.top_k > 1 && l.normalized_gates;
  return json;
}

// ---- tensors ----

Parts attention_parts(const Config& c, const ParameterInfo& info, const std::string& block, bool bias) {
  const LayerBlueprint& l = c.layers[static_cast<size_t>(info.layer)];
  const int64_t width = c.block.head_dim;
  const auto part = [&](const char* name, int64_t heads) {
    const std::string tensor = block + "self_attn." + name + (bias ? ".bias" : ".weight");
    return Part{tensor, bias ? Shape{heads * width} : Shape{heads * width, c.block.dim}};
  };
  return {{part("q_proj", l.heads), part("k_proj", l.kv_heads), part("v_proj", l.kv_heads)}};
}

// Of a mixture: where it lies in a layer, and its matrices.
struct ExpertNames {
  const char *mixture, *gate, *up, *down;
};
constexpr ExpertNames mixtral_experts = {"block_sparse_moe.", "w1", "w3", "w2"},
                      qwen_experts = {"mlp.", "gate_proj", "up_proj", "down_proj"};

template <const ExpertNames& experts>
Parts llama_parts(const Config& c, const ParameterInfo& info) {
  const int64_t dim = c.block.dim;
  if (info.role == Role::embedding) return {{{"model.embed_tokens.weight", {c.padded_vocabulary, dim}}}};
  if (info.role == Role::head) return {{{"lm_head.weight", {c.padded_vocabulary, dim}}}};
  if (info.layer < 0) return {{{"model.norm.weight", {dim}}}};
  const LayerBlueprint& l = c.layers[static_cast<size_t>(info.layer)];
  const std::string block = fmt::format("model.layers.{}.", info.layer);
  if (info.norm == NormOf::mixer) return {{{block + "input_layernorm.weight", {dim}}}};
  if (info.norm == NormOf::feed_forward) return {{{block + "post_attention_layernorm.weight", {dim}}}};
  const int64_t together = l.qk_norm_whole ? l.heads : 1, keys_together = l.qk_norm_whole ? l.kv_heads : 1;
  if (info.norm == NormOf::query) return {{{block + "self_attn.q_norm.weight", {together * c.block.head_dim}}}};
  if (info.norm == NormOf::key) return {{{block + "self_attn.k_norm.weight", {keys_together * c.block.head_dim}}}};
  if (info.of == Role::qkv) return attention_parts(c, info, block, info.role == Role::bias);
  if (info.role == Role::attention_output)
    return {{{block + "self_attn.o_proj.weight", {dim, l.heads * c.block.head_dim}}}};
  if (info.role == Role::router) return {{{block + experts.mixture + "gate.weight", {l.experts, dim}}}};
  if (info.role == Role::router_bias) return {{}, true};
  std::string gate = "mlp.gate_proj", up = "mlp.up_proj", down = "mlp.down_proj";
  if (info.expert >= 0) {
    const std::string expert = fmt::format("{}experts.{}.", experts.mixture, info.expert);
    gate = expert + experts.gate, up = expert + experts.up, down = expert + experts.down;
  }
  if (info.role == Role::down) return {{{block + down + ".weight", {dim, l.ffn}}}};
  if (info.role == Role::up && !info.shared)
    return {{{block + gate + ".weight", {l.ffn, dim}}, {block + up + ".weight", {l.ffn, dim}}}};
  throw internal_error("no tensor for '{}'", info.name);
}

bool llama_buffer(std::string_view tensor) {
  return tensor.ends_with("rotary_emb.inv_freq");
}

template <const ExpertNames& experts = mixtral_experts>
Architecture like_llama(const char* name, Config (*read)(const Settings&), Json (*write)(const Config&),
                        const GgufForm* gguf = nullptr) {
  return {name, "model.", read, write, llama_parts<experts>, llama_buffer, gguf};
}

}  // namespace

Architecture llama_architecture() {
  return like_llama("llama", read_llama, write_llama, &llama_gguf);
}
Architecture mistral_architecture() {
  return like_llama("mistral", read_mistral, write_mistral);
}
Architecture qwen2_architecture() {
  return like_llama("qwen2", read_qwen2, write_qwen2, &qwen2_gguf);
}
Architecture qwen3_architecture() {
  return like_llama("qwen3", read_qwen3, write_qwen3, &qwen3_gguf);
}
Architecture qwen3_moe_architecture() {
  return like_llama<qwen_experts>("qwen3_moe", read_qwen3_moe, write_qwen3_moe, &qwen3_moe_gguf);
}
Architecture olmoe_architecture() {
  return like_llama<qwen_experts>("olmoe", read_olmoe, write_olmoe, &olmoe_gguf);
}
Architecture mixtral_architecture() {
  return like_llama("mixtral", read_mixtral, write_mixtral);
}

}  // namespace hone
