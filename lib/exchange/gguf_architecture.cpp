#include "exchange/gguf_architecture.h"

#include <cmath>

#include "base/error.h"
#include "nn/rope.h"

namespace hone {
namespace {

// ---- both ways, for all ----

struct Keys {
  std::string prefix;
  std::string operator()(const char* name) const { return prefix + "." + name; }
};

Config read_sizes(const GgufFile& f, const Keys& key, bool learned) {
  Config c;
  BlockBlueprint& b = c.block;
  c.context = f.integer(key("context_length"));
  b.dim = f.integer(key("embedding_length"));
  const auto table = f.tensors().find("token_embd.weight");
  if (table == f.tensors().end() || table->second.shape.size() != 2)
    throw input_error("{} has no tensor 'token_embd.weight' of rows", f.where());
  c.vocabulary = c.padded_vocabulary = table->second.shape[0];
  c.tied = !f.tensors().contains("output.weight");
  LayerBlueprint layer;
  layer.heads = f.integer(key("attention.head_count"));
  layer.kv_heads = f.integer(key("attention.head_count_kv"), layer.heads);
  layer.ffn = f.integer(key("feed_forward_length"));
  if (layer.heads < 1) throw input_error("{}: '{}' is 0", f.where(), key("attention.head_count"));
  b.head_dim = f.integer(key("attention.key_length"), b.dim / layer.heads);
  if (f.integer(key("attention.value_length"), b.head_dim) != b.head_dim)
    throw input_error("{}: values of another width than keys are not read", f.where());
  if (f.integer(key("expert_count"), 0) > 0) throw input_error("{}: mixtures of experts are not read", f.where());
  if (!learned) {
    if (const int64_t turns = f.integer(key("rope.dimension_count"), b.head_dim); turns != b.head_dim)
      throw input_error("{}: heads that turn in part are not read", f.where());
    b.rope_theta = f.number(key("rope.freq_base"), 10000);
    const std::string kind = f.has(key("rope.scaling.type")) ? f.text(key("rope.scaling.type")) : "none";
    if (kind == "linear")
      b.rope_scaling = {RopeScaling::Kind::linear, f.number(key("rope.scaling.factor"))};
    else if (kind != "none")
      throw input_error("{}: rotary scaling of the kind '{}' is not read", f.where(), kind);
  }
  c.layers = layers_alike(layer, f.integer(key("block_count")), f.where(), key("block_count"));
  return c;
}

void write_sizes(const Config& c, const Keys& key, GgufContent& to) {
  const LayerBlueprint& l = c.layers.front();
  const auto put = [&](const char* name, GgufValue value) { to.values.emplace_back(key(name), std::move(value)); };
  put("vocab_size", c.padded_vocabulary);
  put("context_length", c.context);
  put("embedding_length", c.block.dim);
  put("block_count", static_cast<int64_t>(c.layers.size()));
  put("feed_forward_length", l.ffn);
  put("attention.head_count", l.heads);
  put("attention.head_count_kv", l.kv_heads);
}

// ---- llama, qwen2, qwen3 ----

// What the three differ in.
struct LikeLlama {
  const char* name;
  bool biases = false;      // of queries, keys and values
  bool qk_norm = false;     // norms of their heads
  bool neighbours = false;  // the heads of the file have pairs (2i, 2i + 1)
};
constexpr LikeLlama llama = {"llama", false, false, true}, qwen2 = {"qwen2", true}, qwen3 = {"qwen3", false, true};

// Llama 3's scaling stands in a file as factors alone. Those of powers of two are recognized.
void read_factors(const GgufFile& f, BlockBlueprint& b) {
  const auto found = f.tensors().find(factors_name);
  if (found == f.tensors().end()) return;
  const Tensor factors = f.numbers(found->second);
  for (double factor = 2; factor <= 64; factor *= 2) {
    for (int64_t context = 16; context <= 1 << 17; context *= 2) {
      b.rope_scaling = {RopeScaling::Kind::llama3, factor, 1, 4, context};
      const std::vector<float> ours = frequency_factors(b);
      bool same = factors.size() == static_cast<int64_t>(ours.size());
      for (size_t i = 0; same && i < ours.size(); ++i)
        same = std::abs(ours[i] - factors.data<float>()[i]) <= 1e-4f * std::abs(ours[i]);
      if (same) return;
    }
  }
  throw input_error("{}: the factors of '{}' are not those of a known rotary scaling", f.where(), factors_name);
}

template <const LikeLlama& kind>
Config read_like_llama(const GgufFile& f) {
  const Keys key{kind.name};
  Config c = read_sizes(f, key, false);
  c.block.norm_epsilon = static_cast<float>(f.number(key("attention.layer_norm_rms_epsilon")));
  c.block.qkv_biases = kind.biases;
  for (LayerBlueprint& layer : c.layers) layer.qk_norm = kind.qk_norm;
  read_factors(f, c.block);
  return c;
}

template <const LikeLlama& kind>
void write_like_llama(const Config& c, GgufContent& to) {
  const BlockBlueprint& b = c.block;
  require_expressible(c, {.qkv_biases = kind.biases, .qk_norm = kind.qk_norm, .any_heads = true, .rope_scaling = true});
  const Keys key{kind.name};
  write_sizes(c, key, to);
  const auto put = [&](const char* what, GgufValue value) { to.values.emplace_back(key(what), std::move(value)); };
  put("attention.layer_norm_rms_epsilon", static_cast<double>(b.norm_epsilon));
  put("attention.key_length", b.head_dim);
  put("attention.value_length", b.head_dim);
  put("rope.dimension_count", b.head_dim);
  put("rope.freq_base", b.rope_theta);
  if (b.rope_scaling.kind == RopeScaling::Kind::linear) {
    put("rope.scaling.type", std::string("linear"));
    put("rope.scaling.factor", b.rope_scaling.factor);
  }
}

std::string block_tensor(const ParameterInfo& info, const char* name) {
  return fmt::format("blk.{}.{}.{}", info.layer, name, info.role == Role::bias ? "bias" : "weight");
}

template <const LikeLlama& kind>
Parts parts_like_llama(const Config& c, const ParameterInfo& info) {
  const int64_t dim = c.block.dim, width = c.block.head_dim;
  if (info.role == Role::embedding) return {{{"token_embd.weight", {c.padded_vocabulary, dim}}}};
  if (info.role == Role::head) return {{{"output.weight", {c.padded_vocabulary, dim}}}};
  if (info.layer < 0) return {{{"output_norm.weight", {dim}}}};
  const LayerBlueprint& l = c.layers[static_cast<size_t>(info.layer)];
  const std::string name = within_block(info);
  if (name == "attention_norm.gain") return {{{block_tensor(info, "attn_norm"), {dim}}}};
  if (name == "feed_forward_norm.gain") return {{{block_tensor(info, "ffn_norm"), {dim}}}};
  if (name == "attention.query_norm.gain") return {{{block_tensor(info, "attn_q_norm"), {width}}}};
  if (name == "attention.key_norm.gain") return {{{block_tensor(info, "attn_k_norm"), {width}}}};
  if (info.of == Role::qkv) {
    const auto part = [&](const char* tensor, int64_t heads, bool turns) {
      const Shape shape = info.role == Role::bias ? Shape{heads * width} : Shape{heads * width, dim};
      return Part{block_tensor(info, tensor), shape, false,
                  turns && kind.neighbours ? rows_of_neighbours(heads, width) : std::vector<int64_t>()};
    };
    return {{part("attn_q", l.heads, true), part("attn_k", l.kv_heads, true), part("attn_v", l.kv_heads, false)}};
  }
  if (info.role == Role::attention_output) return {{{block_tensor(info, "attn_output"), {dim, l.heads * width}}}};
  if (info.role == Role::up)
    return {{{block_tensor(info, "ffn_gate"), {l.ffn, dim}}, {block_tensor(info, "ffn_up"), {l.ffn, dim}}}};
  if (info.role == Role::down) return {{{block_tensor(info, "ffn_down"), {dim, l.ffn}}}};
  throw internal_error("no tensor for '{}'", info.name);
}

// ---- gpt2 ----

Config read_gpt2(const GgufFile& f) {
  const Keys key{"gpt2"};
  Config c = read_sizes(f, key, true);
  BlockBlueprint& b = c.block;
  b.norm = NormKind::layer_norm;
  b.norm_epsilon = static_cast<float>(f.number(key("attention.layer_norm_epsilon")));
  b.activation = ActivationKind::gelu;
  b.positions = PositionKind::learned;
  b.biases = true;
  return c;
}

void write_gpt2(const Config& c, GgufContent& to) {
  require_expressible(c, {.norm = NormKind::layer_norm,
                          .activations = {ActivationKind::gelu},
                          .positions = PositionKind::learned,
                          .biases = true});
  const Keys key{"gpt2"};
  write_sizes(c, key, to);
  to.values.emplace_back(key("attention.layer_norm_epsilon"), static_cast<double>(c.block.norm_epsilon));
}

Parts parts_gpt2(const Config& c, const ParameterInfo& info) {
  const int64_t dim = c.block.dim;
  if (info.role == Role::embedding) return {{{"token_embd.weight", {c.padded_vocabulary, dim}}}};
  if (info.role == Role::position) return {{{"position_embd.weight", {c.context, dim}}}};
  if (info.role == Role::head) return {{{"output.weight", {c.padded_vocabulary, dim}}}};
  const bool bias = info.role == Role::bias;
  if (info.layer < 0) return {{{bias ? "output_norm.bias" : "output_norm.weight", {dim}}}};
  const std::string name = within_block(info);
  if (name.starts_with("attention_norm.")) return {{{block_tensor(info, "attn_norm"), {dim}}}};
  if (name.starts_with("feed_forward_norm.")) return {{{block_tensor(info, "ffn_norm"), {dim}}}};
  const int64_t ffn = c.layers[static_cast<size_t>(info.layer)].ffn;
  const auto linear = [&](const char* tensor, int64_t outputs, int64_t inputs) {
    return Parts{{{block_tensor(info, tensor), bias ? Shape{outputs} : Shape{outputs, inputs}}}};
  };
  if (info.of == Role::qkv) return linear("attn_qkv", 3 * dim, dim);
  if (info.of == Role::attention_output) return linear("attn_output", dim, dim);
  if (info.of == Role::up) return linear("ffn_up", ffn, dim);
  if (info.of == Role::down) return linear("ffn_down", dim, ffn);
  throw internal_error("no tensor for '{}'", info.name);
}

}  // namespace

const std::vector<GgufArchitecture>& gguf_architectures() {
  static const std::vector<GgufArchitecture> table = {
      {llama.name, read_like_llama<llama>, write_like_llama<llama>, parts_like_llama<llama>},
      {qwen2.name, read_like_llama<qwen2>, write_like_llama<qwen2>, parts_like_llama<qwen2>},
      {qwen3.name, read_like_llama<qwen3>, write_like_llama<qwen3>, parts_like_llama<qwen3>},
      {"gpt2", read_gpt2, write_gpt2, parts_gpt2}};
  return table;
}

Parts gguf_llama_parts(const Config& config, const ParameterInfo& info) {
  return parts_like_llama<llama>(config, info);
}

std::vector<float> frequency_factors(const BlockBlueprint& b) {
  if (b.rope_scaling.kind != RopeScaling::Kind::llama3) return {};
  BlockBlueprint plain = b;
  plain.rope_scaling = {};
  const std::vector<double> scaled = rope_frequencies(b), whole = rope_frequencies(plain);
  std::vector<float> factors;
  for (size_t i = 0; i < whole.size(); ++i) factors.push_back(static_cast<float>(whole[i] / scaled[i]));
  return factors;
}

}  // namespace hone
