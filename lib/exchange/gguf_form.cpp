#include "exchange/gguf_form.h"

#include "base/error.h"
#include "nn/rope.h"

namespace hone {

Config read_gguf_sizes(const GgufFile& f, const GgufKeys& key, bool learned, bool experts) {
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
  layer.experts = f.integer(key("expert_count"), 0);
  if (layer.experts > 0) {
    if (!experts) throw input_error("{}: mixtures of experts are not read", f.where());
    layer.top_k = f.integer(key("expert_used_count"));
    layer.ffn = f.integer(key("expert_feed_forward_length"), layer.ffn);
  }
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

void write_gguf_sizes(const Config& c, const GgufKeys& key, GgufContent& to) {
  const LayerBlueprint& l = c.layers.front();
  const auto put = [&](const char* name, GgufValue value) { to.values.emplace_back(key(name), std::move(value)); };
  put("vocab_size", c.padded_vocabulary);
  put("context_length", c.context);
  put("embedding_length", c.block.dim);
  put("block_count", static_cast<int64_t>(c.layers.size()));
  put("feed_forward_length", l.ffn);
  put("attention.head_count", l.heads);
  put("attention.head_count_kv", l.kv_heads);
  if (l.experts == 0) return;
  put("expert_count", l.experts);
  put("expert_used_count", l.top_k);
}

std::string gguf_tensor(const ParameterInfo& info, const char* name) {
  return fmt::format("blk.{}.{}.{}", info.layer, name, info.role == Role::bias ? "bias" : "weight");
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
