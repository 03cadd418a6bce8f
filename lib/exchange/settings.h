// Reading the JSON of other projects' configuration files: members by name, with errors in the terms of the file.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/error.h"
#include "model/config.h"

namespace hone {

class Settings {
 public:
  // Throws Error(input) where `json` is no object; `where` names the file.
  Settings(const nlohmann::json& json, std::string where);

  bool has(const char* name) const;  // and it is not null
  int64_t integer(const char* name) const;
  int64_t integer(const char* name, int64_t otherwise) const { return has(name) ? integer(name) : otherwise; }
  double number(const char* name) const;
  double number(const char* name, double otherwise) const { return has(name) ? number(name) : otherwise; }
  bool boolean(const char* name, bool otherwise) const;
  std::string text(const char* name) const;
  std::string text(const char* name, const std::string& otherwise) const { return has(name) ? text(name) : otherwise; }
  Settings object(const char* name) const;
  const nlohmann::json& json() const { return json_; }
  const std::string& where() const { return where_; }

  // Throws Error(input) saying that Hone lacks what this member asks for, unless it is absent, null or has that value.
  void require(const char* name, const nlohmann::json& only) const;
  Error lacks(const std::string& what) const;

 private:
  const nlohmann::json& member(const char* name) const;
  nlohmann::json json_;
  std::string where_;
};

// JSON of others, of bounded depth. Throws Error(input) naming `where`.
nlohmann::json parse_foreign_json(std::string_view text, const std::string& where);

}  // namespace hone
