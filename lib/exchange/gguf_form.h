// How a GGUF file of llama.cpp says a model of an architecture: keys and tensors for what a blueprint says.
#pragma once

#include "exchange/architecture.h"
#include "exchange/gguf_file.h"

namespace hone {

struct GgufForm {
  const char* name;  // general.architecture
  Config (*read)(const GgufFile& file);
  // Keys of a blueprint. Throws Error(usage) saying what llama.cpp cannot express.
  void (*write)(const Config& config, GgufContent& to);
  Parts (*parts)(const Config& config, const ParameterInfo& info);
};

// ---- what files of architectures/ share ----

struct GgufKeys {
  std::string prefix;
  std::string operator()(const char* name) const { return prefix + "." + name; }
};

// Sizes, rotary positions unless they are `learned`, and layers alike, which are mixtures where `experts` are read and
// the file has them. Throws Error(input) saying what is not read.
Config read_gguf_sizes(const GgufFile& file, const GgufKeys& key, bool learned, bool experts = false);
void write_gguf_sizes(const Config& config, const GgufKeys& key, GgufContent& to);

std::string gguf_tensor(const ParameterInfo& info, const char* name);  // of a layer: "blk.3.ffn_up.weight"

// llama.cpp's factors of the rotary frequencies, which it divides by them: [head_dim / 2]. Empty where there are none.
std::vector<float> frequency_factors(const BlockBlueprint& blueprint);
inline constexpr const char* factors_name = "rope_freqs.weight";

}  // namespace hone
