// A part of tokenizer.json: an object with a "type", of which every member is looked at.
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "base/error.h"

namespace hone {

class TokenizerPart {
 public:
  // Throws Error(input) where `json` is no object; `name` is the part's: "normalizer".
  TokenizerPart(const nlohmann::json& json, std::string name) : json_(json), name_(std::move(name)) {
    if (!json_.is_object()) throw input_error("{} is not an object", where());
  }

  std::string type() const { return text("type"); }
  std::string where() const { return "tokenizer.json: " + name_; }
  std::string where(const std::string& member) const {
    return fmt::format("{}{}{}", where(), name_.empty() ? "" : ".", member);
  }
  const nlohmann::json& json() const { return json_; }

  bool has(const char* member) const {
    const auto found = json_.find(member);
    return found != json_.end() && !found->is_null();
  }
  const nlohmann::json& at(const char* member) const {
    if (!has(member)) throw input_error("{} is missing", where(member));
    return *json_.find(member);
  }
  std::string text(const char* member) const {
    if (!at(member).is_string()) throw input_error("{} is not a string", where(member));
    return at(member).get<std::string>();
  }
  bool flag(const char* member, bool otherwise) const {
    if (!has(member)) return otherwise;
    if (!at(member).is_boolean()) throw input_error("{} is not true or false", where(member));
    return at(member).get<bool>();
  }
  TokenizerPart part(const char* member) const { return {at(member), name_ + "." + member}; }
  // The parts of a list.
  std::vector<TokenizerPart> list(const char* member) const {
    if (!at(member).is_array()) throw input_error("{} is not a list", where(member));
    std::vector<TokenizerPart> parts;
    for (size_t i = 0; i < at(member).size(); ++i)
      parts.emplace_back(at(member)[i], fmt::format("{}.{}[{}]", name_, member, i));
    return parts;
  }
  Error unknown() const { return input_error("{} is of the type '{}', which is not understood", where(), type()); }

 private:
  nlohmann::json json_;
  std::string name_;
};

}  // namespace hone
