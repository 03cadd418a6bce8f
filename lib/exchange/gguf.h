// Models as llama.cpp keeps them: GGUF files of the architectures llama, qwen2, qwen3 and gpt2.
#pragma once

#include <string>

#include "exchange/format.h"

namespace hone {

// Throws Error(input) as import_hugging_face(). Sets the tokenizer, too. Weights become f32, whatever they are.
Imported import_gguf(const std::string& path);

std::vector<std::string_view> gguf_types();  // of matrices that are written

// The type is that of matrices; vectors stay f32, and "same" is f32. Throws Error(usage) naming the model
// and all that llama.cpp would not run as the same.
Exported export_gguf(const Model& model, const std::string& path, const ExportSettings& settings);

}  // namespace hone
