#include "dataset/tokenizer_file.h"

#include <filesystem>

#include "base/atomic_file.h"
#include "base/error.h"
#include "dataset/llama2c_tokenizer.h"
#include "dataset/sentence_piece.h"
#include "dataset/sentence_piece_file.h"
#include "dataset/tokenizer_json.h"

namespace hone {

namespace fs = std::filesystem;

bool names_tokenizer_file(const std::string& path) {
  return path.ends_with(".json") || path.ends_with(".model") || path.ends_with(".bin");
}

nlohmann::json read_tokenizer_file(const std::string& path) {
  const std::string bytes = read_text_file(path);
  const size_t first = bytes.find_first_not_of(" \t\r\n");
  // A protocol buffer of pieces begins with the key of a piece: a line end, but no { behind blanks.
  if (path.ends_with(".json") || (first != bytes.npos && bytes[first] == '{')) return read_tokenizer_json(path);
  const std::string where = fmt::format("'{}'", path);
  if (path.ends_with(".bin"))
    return sentence_piece_json(sentence_piece_bytes(parse_llama2c_tokenizer(bytes, where)), where, "");
  return sentence_piece_json(bytes, where, end_token_beside(path));
}

nlohmann::json tokenizer_beside(const std::string& folder, int64_t vocabulary) {
  fs::path path;
  for (const char* name : {"tokenizer.json", "tokenizer.model", "tokenizer.bin"})
    if (path = fs::path(folder) / name; fs::exists(path)) break;
  if (!fs::exists(path)) return nullptr;
  if (path.filename() == "tokenizer.model" && fs::exists(fs::path(folder) / "added_tokens.json"))
    throw input_error(
        "'{}' has tokens beside tokenizer.model (added_tokens.json), which only a tokenizer.json says how to find",
        folder);
  nlohmann::json object = read_tokenizer_file(path.string());
  if (const int32_t tokens = make_tokenizer(object)->vocabulary(); tokens > vocabulary)
    throw input_error("'{}' has {} tokens, the model only {}", path.string(), tokens, vocabulary);
  return object;
}

}  // namespace hone
