// Llama and those built like it: Mistral (window), Qwen2 (biases of queries, keys and values), Mixtral (experts).
// Public definitions: the model code and config.json of each in huggingface/transformers.
#include <cmath>

#include "base/error.h"
#include "exchange/architectures/table.h"

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

Config read_common(const Settings& s) {
  Config c;
  BlockBlueprint& b = c.block;
  s.require("hidden_act", "silu");
  s.require("mlp_bias", false);
  c.vocabulary = c.padded_vocabulary = s.integer("vocab_size");
  c.context = s.integer("max_position_embeddings", 2048);
  c.tied = s.boolean("tie_word_embeddings", false);
  b.dim = s.integer("hidden_size");
  b.norm_epsilon = static_cast<float>(s.number("rms_norm_eps", 1e-6));
  read_rope(s, b);
  LayerBlueprint layer;
  layer.heads = s.integer("num_attention_heads");
  layer.kv_heads = s.integer("num_key_value_heads", layer.heads);
  layer.ffn = s.integer("intermediate_size");
  if (layer.heads < 1) throw input_error("{}: 'num_attention_heads' is {}", s.where(), layer.heads);
  b.head_dim = s.integer("head_dim", b.dim / layer.heads);
  const int64_t layers = s.integer("num_hidden_layers");
  if (layers < 1 || layers > 4096) throw input_error("{}: 'num_hidden_layers' is {}", s.where(), layers);
  c.layers.assign(static_cast<size_t>(layers), layer);
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

Config read_qwen2(const Settings& s) {
  s.require("use_sliding_window", false);
  if (s.has("layer_types"))
    for (const auto& type : s.json().at("layer_types"))
      if (type != "full_attention") throw s.lacks(fmt::format("layers of the type {}", type.dump()));
  Config c = read_common(s);
  c.block.qkv_biases = true;
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

void require_like_llama(const Config& c) {
  const BlockBlueprint& b = c.block;
  express(b.norm == NormKind::rms_norm, "layer_norm");
  express(b.activation == ActivationKind::swiglu, "GELU");
  express(b.positions == PositionKind::rotary, "learned positions");
  express(!b.biases, "biases");
  express(!b.parallel, "parallel halves of layers");
  express(b.rotary_dim == 0 || b.rotary_dim == b.head_dim, "heads that turn in part");
}

Json write_common(const Config& c, const char* type, const char* class_name) {
  require_like_llama(c);
  const BlockBlueprint& b = c.block;
  const LayerBlueprint& l = uniform_layer(c);
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

// The size of a window, or null for full attention.
Json window_of(const Config& c) {
  const std::string& kind = uniform_layer(c).attention;
  if (kind == "full") return nullptr;
  const std::string start = "window:";
  const bool window = kind.starts_with(start) && kind.find(':', start.size()) == kind.npos;
  if (!window) throw usage_error("attention of the kind '{}'", kind);
  return std::stoll(kind.substr(start.size()));
}

void require_dense(const Config& c) {
  express(uniform_layer(c).experts == 0, "mixtures of experts");
}

Json write_llama(const Config& c) {
  require_dense(c);
  express(window_of(c).is_null(), "windows of attention");
  express(!c.block.qkv_biases, "biases of queries, keys and values");
  Json json = write_common(c, "llama", "LlamaForCausalLM");
  json["attention_bias"] = false;
  json["mlp_bias"] = false;
  return json;
}

Json write_mistral(const Config& c) {
  require_dense(c);
  express(!c.block.qkv_biases, "biases of queries, keys and values");
  Json json = write_common(c, "mistral", "MistralForCausalLM");
  json["sliding_window"] = window_of(c);
  return json;
}

Json write_qwen2(const Config& c) {
  require_dense(c);
  express(window_of(c).is_null(), "windows of attention");
  express(c.block.qkv_biases, "queries, keys and values without biases");
  express(c.block.head_dim * uniform_layer(c).heads == c.block.dim, "heads of another width than dim / heads");
  Json json = write_common(c, "qwen2", "Qwen2ForCausalLM");
  json["use_sliding_window"] = false;
  return json;
}

Json write_mixtral(const Config& c) {
  const LayerBlueprint& l = uniform_layer(c);
  express(l.experts > 0, "layers without experts");
  express(l.shared_experts == 0, "shared experts");
  express(l.router == RouterKind::softmax, "sigmoid routers");
  express(l.top_k >= 2, "one expert a token");
  express(!c.block.qkv_biases, "biases of queries, keys and values");
  Json json = write_common(c, "mixtral", "MixtralForCausalLM");
  json["sliding_window"] = window_of(c);
  json["num_local_experts"] = l.experts;
  json["num_experts_per_tok"] = l.top_k;
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

Parts llama_parts(const Config& c, const ParameterInfo& info) {
  const int64_t dim = c.block.dim;
  if (info.role == Role::embedding) return {{{"model.embed_tokens.weight", {c.padded_vocabulary, dim}}}};
  if (info.role == Role::head) return {{{"lm_head.weight", {c.padded_vocabulary, dim}}}};
  if (info.layer < 0) return {{{"model.norm.weight", {dim}}}};
  const LayerBlueprint& l = c.layers[static_cast<size_t>(info.layer)];
  const std::string block = fmt::format("model.layers.{}.", info.layer), name = within_block(info);
  if (name == "attention_norm.gain") return {{{block + "input_layernorm.weight", {dim}}}};
  if (name == "feed_forward_norm.gain") return {{{block + "post_attention_layernorm.weight", {dim}}}};
  if (info.of == Role::qkv) return attention_parts(c, info, block, info.role == Role::bias);
  if (info.role == Role::attention_output)
    return {{{block + "self_attn.o_proj.weight", {dim, l.heads * c.block.head_dim}}}};
  if (info.role == Role::router) return {{{block + "block_sparse_moe.gate.weight", {l.experts, dim}}}};
  if (info.role == Role::router_bias) return {{}, true};
  std::string gate = "mlp.gate_proj", up = "mlp.up_proj", down = "mlp.down_proj";
  if (info.expert >= 0) {
    const std::string expert = fmt::format("block_sparse_moe.experts.{}.", info.expert);
    gate = expert + "w1", up = expert + "w3", down = expert + "w2";
  }
  if (info.role == Role::down) return {{{block + down + ".weight", {dim, l.ffn}}}};
  if (info.role == Role::up && !info.shared)
    return {{{block + gate + ".weight", {l.ffn, dim}}, {block + up + ".weight", {l.ffn, dim}}}};
  throw internal_error("no tensor for '{}'", info.name);
}

bool llama_buffer(std::string_view tensor) {
  return tensor.ends_with("rotary_emb.inv_freq");
}

Architecture like_llama(const char* name, Config (*read)(const Settings&), Json (*write)(const Config&)) {
  return {name, "model.", read, write, llama_parts, llama_buffer};
}

}  // namespace

Architecture llama_architecture() {
  return like_llama("llama", read_llama, write_llama);
}
Architecture mistral_architecture() {
  return like_llama("mistral", read_mistral, write_mistral);
}
Architecture qwen2_architecture() {
  return like_llama("qwen2", read_qwen2, write_qwen2);
}
Architecture mixtral_architecture() {
  return like_llama("mixtral", read_mixtral, write_mixtral);
}

}  // namespace hone
