// Models as Hugging Face's transformers keep them: a folder with config.json, safetensors and a tokenizer.
#pragma once

#include <string>

#include "exchange/numbers.h"
#include "model/store.h"

namespace hone {

// What a foreign model becomes: a ModelFile whose matrices are promised, and what makes them out of the files, one
// after the other. Valid as long as both are there.
struct Imported {
  ModelFile file;
  ArrayMaker make;
  std::string what;             // "llama, 2 layers, BF16": for messages
  int64_t parameters = 0;       // elements
  uint64_t largest_tensor = 0;  // bytes, as f32
};

// `path`: a folder, or its model.safetensors. Throws Error(input) naming file and tensor: for files that are damaged or
// missing, an architecture that is not known, tensors that are missing, have another shape, or belong to nothing.
Imported import_hugging_face(const std::string& path);

struct ExportSettings {
  bool force = false;
  bool densify = false;            // write the zeros of masks and what packed weights stand for
  std::optional<NumberType> type;  // of all tensors; none: that of the files it came from, else F32
};

struct Exported {
  std::vector<std::string> files;
  std::string architecture;
  int64_t bytes = 0;
  bool as_it_came = false;  // with the headers, files and configuration that it was read from
};

// Writes a folder that import_hugging_face() and transformers read: where shape and tokenizer are those that were read,
// the same files with the same bytes, but for what has changed. Throws Error(usage) naming what no architecture can
// express, for masked and packed weights without `densify`, and for files that are there without `force`.
Exported export_hugging_face(const Model& model, const std::string& folder, const ExportSettings& settings);

// Throws Error(usage) for the first parameter that is not stored plainly: what the target cannot express.
void require_plain(const Model& model, const char* target);

}  // namespace hone
