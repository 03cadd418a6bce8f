// Formats of others are rows of a table: what their files look like, how such a file becomes a model, and how a model
// becomes such a file.
//
// A new format is its reader, its writer or both in a file here, and a row in formats.cpp.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/store.h"

namespace hone {

// What a foreign model becomes: a ModelFile whose parameters are promised, and what reads them out of the files.
struct Imported {
  ModelFile file;
  ArrayReader read;
  std::string what;        // "llama, 2 layers": for messages
  int64_t parameters = 0;  // elements
};

struct ExportSettings {
  bool force = false;
  bool densify = false;  // write the zeros of masks and what packed weights stand for
  // Of the numbers: one of ForeignFormat::types, or as they came where the format can say, else f32.
  std::string type = "same";
  bool only_check = false;  // throw what writing would throw of the model, and write nothing
};

struct Exported {
  std::vector<std::string> files;
  std::string architecture;
  int64_t bytes = 0;
  bool as_it_came = false;  // with the headers, files and configuration that it was read from
};

struct ForeignFormat {
  std::string_view name;   // of the choice, and in the lineage of what came from it
  std::string_view title;  // in messages
  std::string_view files;  // what is named to read one: for help
  bool folder;             // it is written as a folder of files
  bool (*is)(const std::string& path);
  // With the tokenizer, where there is one. Throws Error(input) naming file and tensor.
  Imported (*read)(const std::string& path);
  std::vector<std::string_view> (*types)();  // of the numbers that it writes
  // Null: it is only read. Throws Error(usage) naming the model and all that the format cannot express.
  Exported (*write)(const Model& model, const std::string& path, const ExportSettings& settings);
};

std::span<const ForeignFormat> foreign_formats();
const ForeignFormat* foreign_format_of(const std::string& path);  // by its name and first bytes; null: of none of these
const ForeignFormat* foreign_format_named(std::string_view name);  // null: no such

}  // namespace hone
