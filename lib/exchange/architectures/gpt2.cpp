// GPT-2 (Radford et al. 2019): learned positions, LayerNorm, GELU, biases, and matrices that lie transposed.
// Public definition: model code and config.json in huggingface/transformers.
#include "base/error.h"
#include "exchange/architectures/table.h"

namespace hone {
namespace {

Config read(const Settings& s) {
  const std::string activation = s.text("activation_function", "gelu_new");
  if (activation != "gelu_new" && activation != "gelu_pytorch_tanh" && activation != "gelu")
    throw s.lacks(fmt::format("the activation '{}' (only gelu_new, gelu_pytorch_tanh and gelu)", activation));
  s.require("scale_attn_weights", true);
  s.require("scale_attn_by_inverse_layer_idx", false);
  s.require("reorder_and_upcast_attn", false);
  s.require("add_cross_attention", false);
  Config c;
  BlockBlueprint& b = c.block;
  c.vocabulary = c.padded_vocabulary = s.integer("vocab_size");
  c.context = s.integer("n_positions", s.integer("n_ctx", 1024));
  c.tied = s.boolean("tie_word_embeddings", true);
  b.dim = s.integer("n_embd");
  b.norm = NormKind::layer_norm;
  b.norm_epsilon = static_cast<float>(s.number("layer_norm_epsilon", 1e-5));
  b.activation = activation == "gelu" ? ActivationKind::gelu_erf : ActivationKind::gelu;
  b.positions = PositionKind::learned;
  b.biases = true;
  LayerBlueprint layer;
  layer.heads = layer.kv_heads = s.integer("n_head");
  if (layer.heads < 1 || b.dim % layer.heads)
    throw input_error("{}: 'n_embd' {} is no multiple of 'n_head' {}", s.where(), b.dim, layer.heads);
  layer.ffn = s.integer("n_inner", 4 * b.dim);
  b.head_dim = b.dim / layer.heads;
  const int64_t layers = s.integer("n_layer");
  if (layers < 1 || layers > 4096) throw input_error("{}: 'n_layer' is {}", s.where(), layers);
  c.layers.assign(static_cast<size_t>(layers), layer);
  return c;
}

nlohmann::ordered_json write(const Config& c) {
  const BlockBlueprint& b = c.block;
  const LayerBlueprint& l = uniform_layer(c);
  express(b.norm == NormKind::layer_norm, "rms_norm");
  express(b.activation != ActivationKind::swiglu, "SwiGLU");
  express(b.positions == PositionKind::learned, "rotary positions");
  express(b.biases, "layers without biases");
  express(!b.parallel, "parallel halves of layers");
  express(l.experts == 0, "mixtures of experts");
  express(l.attention == "full", "attention that is not full");
  express(l.heads == l.kv_heads && l.heads * b.head_dim == b.dim, "heads that share keys, or of another width");
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"activation_function", b.activation == ActivationKind::gelu ? "gelu_new" : "gelu"},
          {"vocab_size", c.padded_vocabulary},
          {"n_positions", c.context},
          {"n_embd", b.dim},
          {"n_inner", l.ffn},
          {"n_layer", c.layers.size()},
          {"n_head", l.heads},
          {"layer_norm_epsilon", std::stod(fmt::format("{}", b.norm_epsilon))},
          {"tie_word_embeddings", c.tied}};
}

Parts parts(const Config& c, const ParameterInfo& info) {
  const int64_t dim = c.block.dim;
  if (info.role == Role::embedding) return {{{"transformer.wte.weight", {c.padded_vocabulary, dim}}}};
  if (info.role == Role::position) return {{{"transformer.wpe.weight", {c.context, dim}}}};
  if (info.role == Role::head) return {{{"lm_head.weight", {c.padded_vocabulary, dim}}}};
  const bool bias = info.role == Role::bias;
  const std::string ending = bias ? ".bias" : ".weight";
  if (info.layer < 0) return {{{"transformer.ln_f" + ending, {dim}}}};
  const std::string block = fmt::format("transformer.h.{}.", info.layer), name = within_block(info);
  if (name.starts_with("attention_norm.")) return {{{block + "ln_1" + ending, {dim}}}};
  if (name.starts_with("feed_forward_norm.")) return {{{block + "ln_2" + ending, {dim}}}};
  const int64_t ffn = c.layers[static_cast<size_t>(info.layer)].ffn;
  const auto conv1d = [&](const char* tensor, int64_t outputs, int64_t inputs) {
    return Parts{{{block + tensor + ending, bias ? Shape{outputs} : Shape{inputs, outputs}, !bias}}};
  };
  if (info.of == Role::qkv) return conv1d("attn.c_attn", 3 * dim, dim);
  if (info.of == Role::attention_output) return conv1d("attn.c_proj", dim, dim);
  if (info.of == Role::up) return conv1d("mlp.c_fc", ffn, dim);
  if (info.of == Role::down) return conv1d("mlp.c_proj", dim, ffn);
  throw internal_error("no tensor for '{}'", info.name);
}

bool buffer(std::string_view tensor) {
  return tensor.ends_with(".attn.bias") || tensor.ends_with(".attn.masked_bias");
}

}  // namespace

Architecture gpt2_architecture() {
  return {"gpt2", "transformer.", read, write, parts, buffer};
}

}  // namespace hone
