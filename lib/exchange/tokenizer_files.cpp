#include "exchange/tokenizer_files.h"

#include <map>

#include "base/error.h"
#include "dataset/base64.h"
#include "dataset/byte_letters.h"
#include "dataset/tokenizer.h"

namespace hone {
namespace {

using Json = nlohmann::ordered_json;

// GPT-2's byte-level pairs with Hone's ids: bytes first, then the merges.
std::string as_tokenizer_json(const nlohmann::json& json) {
  const auto tokenizer = make_tokenizer(json);
  Json vocabulary = Json::object(), merges = Json::array();
  std::vector<std::string> letters;
  for (int32_t id = 0; id < tokenizer->vocabulary(); ++id) {
    letters.push_back(letters_of_bytes(tokenizer->text_of(id)));
    vocabulary[letters.back()] = id;
  }
  if (json.contains("merges"))
    for (const auto& pair : json.at("merges"))
      merges.push_back({letters.at(pair.at(0).get<size_t>()), letters.at(pair.at(1).get<size_t>())});
  if (vocabulary.size() != letters.size())
    throw usage_error("two tokens of this tokenizer have the same text, which tokenizer.json cannot express");
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", true}};
  const Json whole = {{"version", "1.0"},
                      {"truncation", nullptr},
                      {"padding", nullptr},
                      {"added_tokens", Json::array()},
                      {"normalizer", nullptr},
                      {"pre_tokenizer", byte_level},
                      {"post_processor", nullptr},
                      {"decoder", byte_level},
                      {"model",
                       {{"type", "BPE"},
                        {"dropout", nullptr},
                        {"unk_token", nullptr},
                        {"continuing_subword_prefix", nullptr},
                        {"end_of_word_suffix", nullptr},
                        {"fuse_unk", false},
                        {"byte_fallback", false},
                        {"ignore_merges", false},
                        {"vocab", vocabulary},
                        {"merges", merges}}}};
  return whole.dump(2) + "\n";
}

}  // namespace

std::vector<std::pair<std::string, std::string>> tokenizer_files(const nlohmann::json& tokenizer) {
  if (tokenizer.is_object() && tokenizer.value("kind", "") == "tokenizer.json")
    return {{"tokenizer.json", tokenizer.at("text").get<std::string>()}};
  if (tokenizer.is_object() && tokenizer.value("kind", "") == "tokenizer.model") {
    const auto bytes = from_base64(tokenizer.at("base64").get_ref<const std::string&>());
    if (!bytes) throw input_error("the tokenizer's \"base64\" is none: the model file is damaged");
    return {{"tokenizer.model", *bytes}};
  }
  return {{"tokenizer.json", as_tokenizer_json(tokenizer.is_null() ? nlohmann::json{{"kind", "bytes"}} : tokenizer)}};
}

}  // namespace hone
