// Models as Hugging Face's transformers keep them: a folder with config.json, safetensors and a tokenizer.
#pragma once

#include <string>

#include "exchange/format.h"

namespace hone {

bool is_hugging_face(const std::string& path);  // a folder, or by its name

// `path`: a folder, or its model.safetensors. Throws Error(input) naming file and tensor: for files that are damaged or
// missing, an architecture that is not known, tensors that are missing, have another shape, or belong to nothing. The
// tokenizer is in another file, and not read.
Imported import_hugging_face(const std::string& path);

std::vector<std::string_view> safetensors_types();  // of numbers that are written

// Writes a folder that import_hugging_face() and transformers read: where shape and tokenizer are those that were read,
// and no type is asked for, the same files with the same bytes, but for what has changed. Throws Error(usage) naming
// what no architecture can express, for masked and packed weights without `densify`, and for files that are there
// without `force`.
Exported export_hugging_face(const Model& model, const std::string& folder, const ExportSettings& settings);

}  // namespace hone
