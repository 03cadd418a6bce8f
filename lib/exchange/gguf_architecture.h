// Architectures of GGUF files: keys and tensors that say what a blueprint says.
#pragma once

#include "exchange/architecture.h"
#include "exchange/gguf_file.h"

namespace hone {

struct GgufArchitecture {
  const char* name;  // general.architecture
  Config (*read)(const GgufFile& file);
  // Keys of a blueprint. Throws Error(usage) saying what llama.cpp cannot express.
  void (*write)(const Config& config, GgufContent& to);
  Parts (*parts)(const Config& config, const ParameterInfo& info);
};

const std::vector<GgufArchitecture>& gguf_architectures();
Parts gguf_llama_parts(const Config& config, const ParameterInfo& info);  // of the architecture llama

// llama.cpp's factors of the rotary frequencies, which it divides by them: [head_dim / 2]. Empty where there are none.
std::vector<float> frequency_factors(const BlockBlueprint& blueprint);
inline constexpr const char* factors_name = "rope_freqs.weight";

}  // namespace hone
