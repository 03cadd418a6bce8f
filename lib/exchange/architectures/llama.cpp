// Llama, and with one feed-forward a layer as it has: Mistral (window), Qwen2 (biases of queries, keys and values) and
// Qwen3 (norms of their heads).
#include "exchange/architectures/llama_like.h"

namespace hone {
namespace {

using llama_like::Json;

Config read_llama(const Settings& s) {
  s.require("attention_bias", false);
  return llama_like::read(s);
}

Config read_mistral(const Settings& s) {
  Config c = llama_like::read(s);
  llama_like::set_window(s, c);
  return c;
}

Config read_qwen2(const Settings& s) {
  Config c = llama_like::read_qwen(s);
  c.block.qkv_biases = true;
  return c;
}

// ---- back ----

Json write_llama(const Config& c) {
  Obstacles obstacles;
  llama_like::require_no_window(c, obstacles);
  Json json = llama_like::write(c, "llama", "LlamaForCausalLM", llama_like::says(), obstacles);
  json["attention_bias"] = false;
  json["mlp_bias"] = false;
  return json;
}

Json write_mistral(const Config& c) {
  Obstacles obstacles;
  const Json window = llama_like::window_of(c, obstacles);
  Json json = llama_like::write(c, "mistral", "MistralForCausalLM", llama_like::says(), obstacles);
  json["sliding_window"] = window;
  return json;
}

Json write_qwen2(const Config& c) {
  Obstacles obstacles;
  llama_like::require_no_window(c, obstacles);
  obstacles.require(c.block.head_dim * c.layers.front().heads == c.block.dim,
                    "heads of another width than dim / heads");
  Expressible can = llama_like::says();
  can.qkv_biases = true;
  Json json = llama_like::write(c, "qwen2", "Qwen2ForCausalLM", can, obstacles);
  json["use_sliding_window"] = false;
  return json;
}

Json write_qwen3(const Config& c) {
  Obstacles obstacles;
  llama_like::require_no_window(c, obstacles);
  Expressible can = llama_like::says();
  can.qk_norm = true;
  Json json = llama_like::write(c, "qwen3", "Qwen3ForCausalLM", can, obstacles);
  json["attention_bias"] = false;
  json["use_sliding_window"] = false;
  return json;
}

}  // namespace

Architecture llama_architecture() {
  return llama_like::architecture("llama", read_llama, write_llama, &llama_gguf);
}
Architecture mistral_architecture() {
  return llama_like::architecture("mistral", read_mistral, write_mistral);
}
Architecture qwen2_architecture() {
  return llama_like::architecture("qwen2", read_qwen2, write_qwen2, &qwen2_gguf);
}
Architecture qwen3_architecture() {
  return llama_like::architecture("qwen3", llama_like::read_qwen3, write_qwen3, &qwen3_gguf);
}

}  // namespace hone
