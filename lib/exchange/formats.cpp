#include <algorithm>
#include <filesystem>

#include "dataset/tokenizer_file.h"
#include "exchange/format.h"
#include "exchange/gguf.h"
#include "exchange/gguf_file.h"
#include "exchange/hugging_face.h"
#include "exchange/llama2c.h"

namespace hone {
namespace {

namespace fs = std::filesystem;

// For formats that leave the tokenizer to a file of its own.
template <Imported (*read)(const std::string&)>
Imported with_tokenizer_beside(const std::string& path) {
  Imported imported = read(path);
  const fs::path folder = fs::is_directory(path) ? fs::path(path) : fs::path(path).parent_path();
  const Config config = config_from_json(imported.file.config, fmt::format("'{}'", path));
  imported.file.tokenizer = tokenizer_beside(folder.string(), config.vocabulary);
  return imported;
}

constexpr ForeignFormat rows[] = {
    {"safetensors", "safetensors", "a folder with config.json, its .safetensors", true, is_hugging_face,
     with_tokenizer_beside<import_hugging_face>, safetensors_types, export_hugging_face},
    {"gguf", "GGUF", "a .gguf", false, is_gguf, import_gguf, gguf_types, export_gguf},
    {"llama2c", "llama2.c", "llama2.c's .bin", false, is_llama2c, with_tokenizer_beside<import_llama2c>, nullptr,
     nullptr},
};

}  // namespace

std::span<const ForeignFormat> foreign_formats() {
  return rows;
}

const ForeignFormat* foreign_format_of(const std::string& path) {
  const auto found = std::ranges::find_if(rows, [&](const ForeignFormat& row) { return row.is(path); });
  return found == std::end(rows) ? nullptr : found;
}

const ForeignFormat* foreign_format_named(std::string_view name) {
  const auto found = std::ranges::find(rows, name, &ForeignFormat::name);
  return found == std::end(rows) ? nullptr : found;
}

}  // namespace hone
