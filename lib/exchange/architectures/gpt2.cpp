// GPT-2 (Radford et al. 2019): learned positions, LayerNorm, GELU, biases, and matrices that lie transposed.
// Public definition: model code and config.json in huggingface/transformers.
#include "base/error.h"
#include "exchange/gguf_form.h"

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
  b.norm = norm_named("layer_norm");
  b.norm_epsilon = static_cast<float>(s.number("layer_norm_epsilon", 1e-5));
  b.activation = activation == "gelu" ? activation_named("gelu_erf") : activation_named("gelu");
  b.positions = positions_named("learned");
  b.biases = true;
  LayerBlueprint layer;
  set_dividing_heads(s, "n_embd", "n_head", b, layer);
  layer.ffn = s.integer("n_inner", 4 * b.dim);
  c.layers = layers_alike(layer, s.integer("n_layer"), s.where(), "n_layer");
  return c;
}

nlohmann::ordered_json write(const Config& c) {
  const BlockBlueprint& b = c.block;
  const LayerBlueprint& l =
      require_expressible(c, {.norm = norm_named("layer_norm"),
                              .activations = {activation_named("gelu"), activation_named("gelu_erf")},
                              .positions = positions_named("learned"),
                              .biases = true});
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"activation_function", b.activation == activation_named("gelu") ? "gelu_new" : "gelu"},
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
  const std::string block = fmt::format("transformer.h.{}.", info.layer);
  if (info.norm == NormOf::mixer) return {{{block + "ln_1" + ending, {dim}}}};
  if (info.norm == NormOf::feed_forward) return {{{block + "ln_2" + ending, {dim}}}};
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

// ---- GGUF ----

Config read_keys(const GgufFile& f) {
  const GgufKeys key{"gpt2"};
  Config c = read_gguf_sizes(f, key, true);
  BlockBlueprint& b = c.block;
  b.norm = norm_named("layer_norm");
  b.norm_epsilon = static_cast<float>(f.number(key("attention.layer_norm_epsilon")));
  b.activation = activation_named("gelu");
  b.positions = positions_named("learned");
  b.biases = true;
  return c;
}

void write_keys(const Config& c, GgufContent& to) {
  require_expressible(c, {.norm = norm_named("layer_norm"),
                          .activations = {activation_named("gelu")},
                          .positions = positions_named("learned"),
                          .biases = true});
  const GgufKeys key{"gpt2"};
  write_gguf_sizes(c, key, to);
  to.values.emplace_back(key("attention.layer_norm_epsilon"), static_cast<double>(c.block.norm_epsilon));
}

Parts gguf_parts(const Config& c, const ParameterInfo& info) {
  const int64_t dim = c.block.dim;
  if (info.role == Role::embedding) return {{{"token_embd.weight", {c.padded_vocabulary, dim}}}};
  if (info.role == Role::position) return {{{"position_embd.weight", {c.context, dim}}}};
  if (info.role == Role::head) return {{{"output.weight", {c.padded_vocabulary, dim}}}};
  const bool bias = info.role == Role::bias;
  if (info.layer < 0) return {{{bias ? "output_norm.bias" : "output_norm.weight", {dim}}}};
  if (info.norm == NormOf::mixer) return {{{gguf_tensor(info, "attn_norm"), {dim}}}};
  if (info.norm == NormOf::feed_forward) return {{{gguf_tensor(info, "ffn_norm"), {dim}}}};
  const int64_t ffn = c.layers[static_cast<size_t>(info.layer)].ffn;
  const auto linear = [&](const char* tensor, int64_t outputs, int64_t inputs) {
    return Parts{{{gguf_tensor(info, tensor), bias ? Shape{outputs} : Shape{outputs, inputs}}}};
  };
  if (info.of == Role::qkv) return linear("attn_qkv", 3 * dim, dim);
  if (info.of == Role::attention_output) return linear("attn_output", dim, dim);
  if (info.of == Role::up) return linear("ffn_up", ffn, dim);
  if (info.of == Role::down) return linear("ffn_down", dim, ffn);
  throw internal_error("no tensor for '{}'", info.name);
}

constexpr GgufForm gguf = {"gpt2", read_keys, write_keys, gguf_parts};

}  // namespace

Architecture gpt2_architecture() {
  return {"gpt2", "transformer.", read, write, parts, buffer, &gguf};
}

}  // namespace hone
