// Tokenizers in the files of other projects.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace hone {

// The tokenizer of a model file as files of transformers: name and text. tokenizer.json is as it came where the
// tokenizer came from one, and so is tokenizer.model; bytes and byte pairs of Hone are written as the first.
std::vector<std::pair<std::string, std::string>> tokenizer_files(const nlohmann::json& tokenizer);

}  // namespace hone
