// GGUF files of Llama and those built like it: the architectures llama (Mixtral, too), qwen2, qwen3, qwen2moe, qwen3moe
// and olmoe of llama.cpp.
#include "exchange/architectures/llama_gguf.h"

#include <cmath>

#include "base/error.h"

namespace hone {
namespace {

enum class Experts { none, some, all };  // in no model, in some models, in all

// What they differ in.
struct LikeLlama {
  const char* name;
  bool biases = false;            // of queries, keys and values
  bool qk_norm = false;           // norms of their heads,
  bool qk_norm_whole = false;     // or of all of them
  bool neighbours = false;        // the heads of the file have pairs (2i, 2i + 1)
  bool factors = false;           // of frequencies are read: llama3's scaling
  bool wide_heads = true;         // their width is a key, and need not be dim / heads
  bool must_not_be_tied = false;  // there is always a head
  Experts experts = Experts::none;
  bool normalized_gates = true;   // of them; that of one alone then is 1
  bool width_of_experts = false;  // has a key of its own
  bool shared_gate = false;       // shared experts are there, with a gate
};
constexpr LikeLlama llama = {.name = "llama", .neighbours = true, .factors = true, .experts = Experts::some},
                    qwen2 = {.name = "qwen2", .biases = true, .wide_heads = false},
                    qwen3 = {.name = "qwen3", .qk_norm = true},
                    qwen2_moe = {.name = "qwen2moe",
                                 .biases = true,
                                 .wide_heads = false,
                                 .must_not_be_tied = true,
                                 .experts = Experts::all,
                                 .normalized_gates = false,
                                 .width_of_experts = true,
                                 .shared_gate = true},
                    qwen3_moe = {.name = "qwen3moe",
                                 .qk_norm = true,
                                 .experts = Experts::all,
                                 .width_of_experts = true},
                    olmoe = {.name = "olmoe",
                             .qk_norm = true,
                             .qk_norm_whole = true,
                             .wide_heads = false,
                             .must_not_be_tied = true,
                             .experts = Experts::all,
                             .normalized_gates = false};

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

// A width that is no multiple of an expert's is that of no shared experts.
void set_shared(const GgufFile& f, const GgufKeys& key, LayerBlueprint& layer) {
  const char* name = "expert_shared_feed_forward_length";
  const int64_t width = f.integer(key(name));
  if (layer.ffn < 1 || width < layer.ffn || width % layer.ffn)
    throw input_error("{}: '{}' is {}, not the width of several experts ({} each)", f.where(), key(name), width,
                      layer.ffn);
  layer.shared_experts = width / layer.ffn;
  layer.shared_gate = true;
}

template <const LikeLlama& kind>
Config read_like_llama(const GgufFile& f) {
  const GgufKeys key{kind.name};
  Config c = read_gguf_sizes(f, key, false, kind.experts != Experts::none);
  c.block.norm_epsilon = static_cast<float>(f.number(key("attention.layer_norm_rms_epsilon")));
  c.block.qkv_biases = kind.biases;
  for (LayerBlueprint& layer : c.layers) {
    layer.qk_norm = kind.qk_norm;
    layer.qk_norm_whole = kind.qk_norm_whole;
    if (kind.experts == Experts::all && layer.experts == 0)
      throw input_error("{} has no '{}'", f.where(), key("expert_count"));
    if (layer.experts == 0) continue;
    if (kind.normalized_gates && layer.top_k < 2)
      throw input_error("{}: one expert a token, weighted by 1, is not read ('{}')", f.where(),
                        key("expert_used_count"));
    if (layer.top_k > 1) layer.normalized_gates = kind.normalized_gates;
    if (kind.shared_gate) set_shared(f, key, layer);
  }
  read_factors(f, c.block);
  return c;
}

void require_same_mixture(const LikeLlama& kind, const LayerBlueprint& l, Obstacles& obstacles) {
  if (l.experts == 0) return;
  require_usual_mixture(l, obstacles, kind.shared_gate);
  if (l.top_k == 1)
    obstacles.require(!kind.normalized_gates, "one expert a token");
  else
    obstacles.require(
        l.normalized_gates == kind.normalized_gates,
        l.normalized_gates ? "chosen experts whose weights sum to 1" : "chosen experts whose weights do not sum to 1");
}

template <const LikeLlama& kind>
void write_like_llama(const Config& c, GgufContent& to) {
  const BlockBlueprint& b = c.block;
  const LayerBlueprint& l = c.layers.front();
  Obstacles obstacles;
  require_expressible(c,
                      {.qkv_biases = kind.biases,
                       .qk_norm = kind.qk_norm,
                       .qk_norm_whole = kind.qk_norm_whole,
                       .experts = kind.experts == Experts::some ? l.experts > 0 : kind.experts == Experts::all,
                       .any_heads = !kind.qk_norm_whole,  // else as many of keys
                       .rope_scaling = true,
                       .any_gates = true},
                      obstacles);
  require_same_mixture(kind, l, obstacles);
  obstacles.require(kind.factors || b.rope_scaling.kind != RopeScaling::Kind::llama3, "Llama 3's rotary scaling");
  obstacles.require(kind.wide_heads || l.heads * b.head_dim == b.dim, "heads of another width than dim / heads");
  obstacles.require(!kind.must_not_be_tied || !c.tied, "a head that is the embedding");
  obstacles.refuse("", "; ");
  const GgufKeys key{kind.name};
  write_gguf_sizes(c, key, to);
  const auto put = [&](const char* what, GgufValue value) { to.values.emplace_back(key(what), std::move(value)); };
  put("attention.layer_norm_rms_epsilon", static_cast<double>(b.norm_epsilon));
  if (kind.width_of_experts) put("expert_feed_forward_length", l.ffn);
  if (kind.shared_gate) put("expert_shared_feed_forward_length", l.shared_experts * l.ffn);
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
  const int64_t together = l.qk_norm_whole ? l.heads : 1, keys_together = l.qk_norm_whole ? l.kv_heads : 1;
  if (info.norm == NormOf::query) return {{{gguf_tensor(info, "attn_q_norm"), {together * width}}}};
  if (info.norm == NormOf::key) return {{{gguf_tensor(info, "attn_k_norm"), {keys_together * width}}}};
  if (info.of == Role::qkv) {
    const auto part = [&](const char* tensor, int64_t heads, bool turns) {
      const Shape shape = info.role == Role::bias ? Shape{heads * width} : Shape{heads * width, dim};
      return Part{gguf_tensor(info, tensor), shape, false,
                  turns && kind.neighbours ? rows_of_neighbours(heads, width) : std::vector<int64_t>()};
    };
    return {{part("attn_q", l.heads, true), part("attn_k", l.kv_heads, true), part("attn_v", l.kv_heads, false)}};
  }
  if (info.role == Role::attention_output) return {{{gguf_tensor(info, "attn_output"), {dim, l.heads * width}}}};
  if (info.role == Role::router) return {{{gguf_tensor(info, "ffn_gate_inp"), {l.experts, dim}}}};
  if (info.role == Role::router_bias) return {{}, true};
  if (info.role == Role::shared_gate) return {{{gguf_tensor(info, "ffn_gate_inp_shexp"), {dim}}}};
  if (info.shared) {
    const int64_t width_of_all = l.shared_experts * l.ffn;
    const auto part = [&](const char* tensor, Shape shape) {
      return Part{gguf_tensor(info, tensor), std::move(shape)};
    };
    if (info.role == Role::down) return {{part("ffn_down_shexp", {dim, width_of_all})}};
    return {{part("ffn_gate_shexp", {width_of_all, dim}), part("ffn_up_shexp", {width_of_all, dim})}};
  }
  if (info.expert >= 0) {
    const auto part = [&](const char* tensor, Shape shape) {
      return Part{gguf_tensor(info, tensor), std::move(shape), false, {}, l.experts, info.expert};
    };
    if (info.role == Role::down) return {{part("ffn_down_exps", {dim, l.ffn})}};
    if (info.role == Role::up) return {{part("ffn_gate_exps", {l.ffn, dim}), part("ffn_up_exps", {l.ffn, dim})}};
  }
  if (info.role == Role::up)
    return {{{gguf_tensor(info, "ffn_gate"), {l.ffn, dim}}, {gguf_tensor(info, "ffn_up"), {l.ffn, dim}}}};
  if (info.role == Role::down) return {{{gguf_tensor(info, "ffn_down"), {dim, l.ffn}}}};
  throw internal_error("no tensor for '{}'", info.name);
}

template <const LikeLlama& kind>
constexpr GgufForm form = {kind.name, read_like_llama<kind>, write_like_llama<kind>, parts_like_llama<kind>};

}  // namespace

const GgufForm llama_gguf = form<llama>, qwen2_gguf = form<qwen2>, qwen3_gguf = form<qwen3>,
               qwen2_moe_gguf = form<qwen2_moe>, qwen3_moe_gguf = form<qwen3_moe>, olmoe_gguf = form<olmoe>;

}  // namespace hone
