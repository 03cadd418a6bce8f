// GPT-NeoX and Pythia (Black et al., arXiv 2204.06745): both halves of a layer read its input, heads turn in part, and
// the rows of queries, keys and values lie head by head.
// Public definition: model code and config.json in huggingface/transformers.
#include <cmath>

#include "base/error.h"
#include "exchange/architecture.h"

namespace hone {
namespace {

// Numbers of a head that turn.
int64_t turning(double fraction, int64_t head_dim) {
  return static_cast<int64_t>(static_cast<double>(head_dim) * fraction);
}

Config read(const Settings& s) {
  const std::string activation = s.text("hidden_act", "gelu");
  if (activation != "gelu" && activation != "gelu_new" && activation != "gelu_pytorch_tanh")
    throw s.lacks(fmt::format("the activation '{}' (only gelu, gelu_new and gelu_pytorch_tanh)", activation));
  s.require("attention_bias", true);
  if (s.has("rope_scaling")) throw s.lacks("rotary scaling");
  Config c;
  BlockBlueprint& b = c.block;
  c.vocabulary = c.padded_vocabulary = s.integer("vocab_size");
  c.context = s.integer("max_position_embeddings");
  c.tied = s.boolean("tie_word_embeddings", false);
  b.dim = s.integer("hidden_size");
  b.norm = norm_named("layer_norm");
  b.norm_epsilon = static_cast<float>(s.number("layer_norm_eps", 1e-5));
  b.activation = activation == "gelu" ? activation_named("gelu_erf") : activation_named("gelu");
  b.biases = true;
  b.parallel = s.boolean("use_parallel_residual", true);
  b.rope_theta = s.number("rotary_emb_base", s.number("rope_theta", 10000));
  LayerBlueprint layer;
  set_dividing_heads(s, "hidden_size", "num_attention_heads", b, layer);
  layer.ffn = s.integer("intermediate_size");
  const double fraction = s.number("rotary_pct", s.number("partial_rotary_factor", 0.25));
  if (!(fraction > 0) || fraction > 1) throw input_error("{}: 'rotary_pct' is {}", s.where(), fraction);
  b.rotary_dim = turning(fraction, b.head_dim);
  if (b.rotary_dim < 2 || b.rotary_dim % 2)
    throw s.lacks(fmt::format("heads of which {} numbers turn (only even numbers from 2)", b.rotary_dim));
  if (b.rotary_dim == b.head_dim) b.rotary_dim = 0;
  c.layers = layers_alike(layer, s.integer("num_hidden_layers"), s.where(), "num_hidden_layers");
  return c;
}

nlohmann::ordered_json write(const Config& c) {
  const BlockBlueprint& b = c.block;
  const LayerBlueprint& l = c.layers.front();
  Obstacles obstacles;
  require_expressible(c,
                      {.norm = norm_named("layer_norm"),
                       .activations = {activation_named("gelu"), activation_named("gelu_erf")},
                       .biases = true,
                       .parallel = true,
                       .turns_in_part = true},
                      obstacles);
  const int64_t turns = b.rotary_dim > 0 ? b.rotary_dim : b.head_dim;
  const double fraction = static_cast<double>(turns) / static_cast<double>(b.head_dim);
  obstacles.require(turning(fraction, b.head_dim) == turns, "this part of a head that turns");
  obstacles.refuse("", "; ");
  return {{"architectures", {"GPTNeoXForCausalLM"}},
          {"model_type", "gpt_neox"},
          {"hidden_act", b.activation == activation_named("gelu") ? "gelu_new" : "gelu"},
          {"vocab_size", c.padded_vocabulary},
          {"max_position_embeddings", c.context},
          {"hidden_size", b.dim},
          {"intermediate_size", l.ffn},
          {"num_hidden_layers", c.layers.size()},
          {"num_attention_heads", l.heads},
          {"layer_norm_eps", std::stod(fmt::format("{}", b.norm_epsilon))},
          {"rotary_pct", fraction},
          {"rotary_emb_base", b.rope_theta},
          {"use_parallel_residual", b.parallel},
          {"tie_word_embeddings", c.tied}};
}

// Hone's place of each number of a head, as NeoX has them: it turns pairs (i, i + turning / 2) of the first numbers,
// Hone (i, i + head_dim / 2). Only products of queries with keys see the order, so that the rest may lie anywhere.
std::vector<int64_t> order_of_head(const BlockBlueprint& b) {
  const int64_t turns = b.rotary_dim > 0 ? b.rotary_dim : b.head_dim, half = b.head_dim / 2;
  std::vector<int64_t> order(static_cast<size_t>(b.head_dim));
  int64_t next = turns;
  for (int64_t c = 0; c < half; ++c) {
    const bool turn = c < turns / 2;
    order[static_cast<size_t>(c)] = turn ? c : next++;
    order[static_cast<size_t>(c + half)] = turn ? c + turns / 2 : next++;
  }
  return order;
}

// Queries, keys and values of all heads, out of [heads, 3, head_dim].
std::vector<int64_t> qkv_rows(const Config& c, const ParameterInfo& info) {
  const int64_t heads = c.layers[static_cast<size_t>(info.layer)].heads, width = c.block.head_dim;
  const std::vector<int64_t> turned = order_of_head(c.block);
  std::vector<int64_t> rows;
  for (int64_t part = 0; part < 3; ++part)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i = 0; i < width; ++i)
        rows.push_back((3 * h + part) * width + (part < 2 ? turned[static_cast<size_t>(i)] : i));
  return rows;
}

Parts parts(const Config& c, const ParameterInfo& info) {
  const int64_t dim = c.block.dim;
  if (info.role == Role::embedding) return {{{"gpt_neox.embed_in.weight", {c.padded_vocabulary, dim}}}};
  if (info.role == Role::head) return {{{"embed_out.weight", {c.padded_vocabulary, dim}}}};
  const bool bias = info.role == Role::bias;
  const std::string ending = bias ? ".bias" : ".weight";
  if (info.layer < 0) return {{{"gpt_neox.final_layer_norm" + ending, {dim}}}};
  const std::string block = fmt::format("gpt_neox.layers.{}.", info.layer);
  if (info.norm == NormOf::mixer) return {{{block + "input_layernorm" + ending, {dim}}}};
  if (info.norm == NormOf::feed_forward) return {{{block + "post_attention_layernorm" + ending, {dim}}}};
  const int64_t ffn = c.layers[static_cast<size_t>(info.layer)].ffn;
  const auto linear = [&](const char* tensor, int64_t outputs, int64_t inputs) {
    return Parts{{{block + tensor + ending, bias ? Shape{outputs} : Shape{outputs, inputs}}}};
  };
  if (info.of == Role::qkv) {
    Parts qkv = linear("attention.query_key_value", 3 * dim, dim);
    qkv.parts.front().rows = qkv_rows(c, info);
    return qkv;
  }
  if (info.of == Role::attention_output) return linear("attention.dense", dim, dim);
  if (info.of == Role::up) return linear("mlp.dense_h_to_4h", ffn, dim);
  if (info.of == Role::down) return linear("mlp.dense_4h_to_h", dim, ffn);
  throw internal_error("no tensor for '{}'", info.name);
}

bool buffer(std::string_view tensor) {
  return tensor.ends_with("rotary_emb.inv_freq") || tensor.ends_with(".attention.bias") ||
         tensor.ends_with(".attention.masked_bias");
}

}  // namespace

Architecture neox_architecture() {
  return {"gpt_neox", "gpt_neox.", read, write, parts, buffer};
}

}  // namespace hone
