#include "exchange/settings.h"

#include "base/error.h"
#include "base/json.h"

namespace hone {

Settings::Settings(const nlohmann::json& json, std::string where) : json_(json), where_(std::move(where)) {
  if (!json_.is_object()) throw input_error("{}: an object is needed here", where_);
}

bool Settings::has(const char* name) const {
  const auto found = json_.find(name);
  return found != json_.end() && !found->is_null();
}

const nlohmann::json& Settings::member(const char* name) const {
  if (!has(name)) throw input_error("{} has no '{}'", where_, name);
  return *json_.find(name);
}

int64_t Settings::integer(const char* name) const {
  const nlohmann::json& value = member(name);
  if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{1} << 40))
    throw input_error("{}: '{}' is not an integer of ordinary size", where_, name);
  return value.get<int64_t>();
}

double Settings::number(const char* name) const {
  const nlohmann::json& value = member(name);
  if (!value.is_number()) throw input_error("{}: '{}' is not a number", where_, name);
  return value.get<double>();
}

bool Settings::boolean(const char* name, bool otherwise) const {
  if (!has(name)) return otherwise;
  const nlohmann::json& value = member(name);
  if (!value.is_boolean()) throw input_error("{}: '{}' is not true or false", where_, name);
  return value.get<bool>();
}

std::string Settings::text(const char* name) const {
  const nlohmann::json& value = member(name);
  if (!value.is_string()) throw input_error("{}: '{}' is not a string", where_, name);
  return value.get<std::string>();
}

Settings Settings::object(const char* name) const {
  return Settings(member(name), fmt::format("{}, '{}'", where_, name));
}

void Settings::require(const char* name, const nlohmann::json& only) const {
  if (has(name) && member(name) != only)
    throw lacks(fmt::format("'{}' {} (only {})", name, member(name).dump().substr(0, 100), only.dump()));
}

Error Settings::lacks(const std::string& what) const {
  return input_error("{} asks for something that Hone's models lack: {}", where_, what);
}

nlohmann::json parse_foreign_json(std::string_view text, const std::string& where) {
  return require_json(text, where);
}

}  // namespace hone
