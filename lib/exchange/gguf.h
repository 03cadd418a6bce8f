// Models as llama.cpp keeps them: GGUF files of the architectures llama, qwen2, qwen3 and gpt2.
#pragma once

#include <string>

#include "exchange/hugging_face.h"

namespace hone {

struct GgufSettings {
  bool force = false;
  bool densify = false;      // as ExportSettings
  std::string type = "f32";  // of matrices: f32, f16, bf16, q8_0, q4_0; vectors stay f32
};

// Throws Error(input) as import_hugging_face(). Sets the tokenizer, too. Weights become f32, whatever they are.
Imported import_gguf(const std::string& path);

struct GgufWritten {
  std::string architecture;
  int64_t bytes = 0;
};
// Throws Error(usage) naming what llama.cpp would not run as the same model.
GgufWritten export_gguf(const Model& model, const std::string& path, const GgufSettings& settings);

}  // namespace hone
