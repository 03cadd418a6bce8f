#include "exchange/architectures/llama_like.h"

#include "base/error.h"

namespace hone::llama_like {
namespace {

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

}  // namespace

Config read(const Settings& s, double epsilon) {
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

Config read_qwen(const Settings& s) {
  s.require("use_sliding_window", false);
  if (s.has("layer_types"))
    for (const auto& type : s.json().at("layer_types"))
      if (type != "full_attention") throw s.lacks(fmt::format("layers of the type {}", type.dump()));
  return read(s);
}

Config read_qwen3(const Settings& s) {
  s.require("attention_bias", false);
  Config c = read_qwen(s);
  c.block.head_dim = s.integer("head_dim", 128);
  for (LayerBlueprint& layer : c.layers) layer.qk_norm = true;
  return c;
}

Expressible says() {
  return {.any_heads = true, .any_attention = true, .rope_scaling = true};  // windows: window_of()
}

Json write(const Config& c, const char* type, const char* class_name, const Expressible& can, Obstacles obstacles) {
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

namespace {

Parts attention_parts(const Config& c, const ParameterInfo& info, const std::string& block, bool bias) {
  const LayerBlueprint& l = c.layers[static_cast<size_t>(info.layer)];
  const int64_t width = c.block.head_dim;
  const auto part = [&](const char* name, int64_t heads) {
    const std::string tensor = block + "self_attn." + name + (bias ? ".bias" : ".weight");
    return Part{tensor, bias ? Shape{heads * width} : Shape{heads * width, c.block.dim}};
  };
  return {{part("q_proj", l.heads), part("k_proj", l.kv_heads), part("v_proj", l.kv_heads)}};
}

}  // namespace

Parts parts(const Config& c, const ParameterInfo& info, const ExpertNames& experts) {
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
  if (info.role == Role::shared_gate) return {{{block + experts.mixture + "shared_expert_gate.weight", {1, dim}}}};
  std::string gate = "mlp.gate_proj", up = "mlp.up_proj", down = "mlp.down_proj";
  if (info.expert >= 0) {
    const std::string expert = fmt::format("{}experts.{}.", experts.mixture, info.expert);
    gate = expert + experts.gate, up = expert + experts.up, down = expert + experts.down;
  }
  const std::string shared = fmt::format("{}shared_expert.", experts.mixture);
  if (info.shared) gate = shared + experts.gate, up = shared + experts.up, down = shared + experts.down;
  const int64_t width = info.shared ? l.shared_experts * l.ffn : l.ffn;
  if (info.role == Role::down) return {{{block + down + ".weight", {dim, width}}}};
  if (info.role == Role::up)
    return {{{block + gate + ".weight", {width, dim}}, {block + up + ".weight", {width, dim}}}};
  throw internal_error("no tensor for '{}'", info.name);
}

bool buffer(std::string_view tensor) {
  return tensor.ends_with("rotary_emb.inv_freq");
}

}  // namespace hone::llama_like
