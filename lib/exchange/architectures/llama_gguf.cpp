// GGUF files of Llama and those built like it: the architectures llama, qwen2 and qwen3 of llama.cpp.
#include "exchange/architectures/llama_gguf.h"

#include <cmath>

#include "base/error.h"

namespace hone {
namespace {

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
  const GgufKeys key{kind.name};
  Config c = read_gguf_sizes(f, key, false);
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
  const GgufKeys key{kind.name};
  write_gguf_sizes(c, key, to);
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

template <const LikeLlama& kind>
Parts parts_like_llama(const Config& c, const ParameterInfo& info) {
  const int64_t dim = c.block.dim, width = c.block.head_dim;
  if (info.role == Role::embedding) return {{{"token_embd.weight", {c.padded_vocabulary, dim}}}};
  if (info.role == Role::head) return {{{"output.weight", {c.padded_vocabulary, dim}}}};
  if (info.layer < 0) return {{{"output_norm.weight", {dim}}}};
  const LayerBlueprint& l = c.layers[static_cast<size_t>(info.layer)];
  if (info.norm == NormOf::mixer) return {{{gguf_tensor(info, "attn_norm"), {dim}}}};
  if (info.norm == NormOf::feed_forward) return {{{gguf_tensor(info, "ffn_norm"), {dim}}}};
  if (info.norm == NormOf::query) return {{{gguf_tensor(info, "attn_q_norm"), {width}}}};
  if (info.norm == NormOf::key) return {{{gguf_tensor(info, "attn_k_norm"), {width}}}};
  if (info.of == Role::qkv) {
    const auto part = [&](const char* tensor, int64_t heads, bool turns) {
      const Shape shape = info.role == Role::bias ? Shape{heads * width} : Shape{heads * width, dim};
      return Part{gguf_tensor(info, tensor), shape, false,
                  turns && kind.neighbours ? rows_of_neighbours(heads, width) : std::vector<int64_t>()};
    };
    return {{part("attn_q", l.heads, true), part("attn_k", l.kv_heads, true), part("attn_v", l.kv_heads, false)}};
  }
  if (info.role == Role::attention_output) return {{{gguf_tensor(info, "attn_output"), {dim, l.heads * width}}}};
  if (info.role == Role::up)
    return {{{gguf_tensor(info, "ffn_gate"), {l.ffn, dim}}, {gguf_tensor(info, "ffn_up"), {l.ffn, dim}}}};
  if (info.role == Role::down) return {{{gguf_tensor(info, "ffn_down"), {dim, l.ffn}}}};
  throw internal_error("no tensor for '{}'", info.name);
}

template <const LikeLlama& kind>
constexpr GgufForm form = {kind.name, read_like_llama<kind>, write_like_llama<kind>, parts_like_llama<kind>};

}  // namespace

const GgufForm llama_gguf = form<llama>, qwen2_gguf = form<qwen2>, qwen3_gguf = form<qwen3>;

}  // namespace hone
