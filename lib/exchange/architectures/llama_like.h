// What Llama and those built like it share: names of tensors, and most of a config.json.
// Public definitions: the model code and config.json of each in huggingface/transformers.
#pragma once

#include "exchange/architectures/llama_gguf.h"

namespace hone::llama_like {

using Json = nlohmann::ordered_json;

// ---- config.json ----

Config read(const Settings& settings, double epsilon = 1e-6);  // as a Llama; `epsilon` of norms where it says none
void set_window(const Settings& settings, Config& config);     // `sliding_window`, in all layers
Config read_qwen(const Settings& settings);                    // read(), and no layers with windows
Config read_qwen3(const Settings& settings);                   // that, with norms of heads

Expressible says();  // what a Llama's files can say

// Throws what `obstacles` have with what is added here.
Json write(const Config& config, const char* type, const char* class_name, const Expressible& can, Obstacles obstacles);
// The size of a window, or null for full attention, and where there is another.
Json window_of(const Config& config, Obstacles& obstacles);
void require_no_window(const Config& config, Obstacles& obstacles);

// ---- tensors ----

// Of a mixture: where it lies in a layer, and its matrices.
struct ExpertNames {
  const char *mixture, *gate, *up, *down;
};
inline constexpr ExpertNames mixtral_experts = {"block_sparse_moe.", "w1", "w3", "w2"},
                             qwen_experts = {"mlp.", "gate_proj", "up_proj", "down_proj"};
Parts parts(const Config& config, const ParameterInfo& info, const ExpertNames& experts);
bool buffer(std::string_view tensor);

template <const ExpertNames& experts = mixtral_experts>
Architecture architecture(const char* name, Config (*read)(const Settings&), Json (*write)(const Config&),
                          const GgufForm* gguf = nullptr) {
  const auto parts_here = [](const Config& config, const ParameterInfo& info) { return parts(config, info, experts); };
  return {name, "model.", read, write, parts_here, buffer, gguf};
}

}  // namespace hone::llama_like
