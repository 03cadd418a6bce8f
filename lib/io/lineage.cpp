#include "io/lineage.h"

#include "base/json.h"
#include "base/version.h"

namespace hone {

nlohmann::json lineage_entry(const std::string& tool, const std::vector<std::string>& arguments,
                             const std::string& parent_sha256, uint64_t seed, const nlohmann::json& results) {
  nlohmann::json list = nlohmann::json::array();
  for (const std::string& argument : arguments) list.push_back(in_utf8(argument));
  nlohmann::json entry;
  entry["tool"] = tool;
  entry["version"] = version();
  entry["arguments"] = std::move(list);
  entry["parent_sha256"] = parent_sha256.empty() ? nlohmann::json() : nlohmann::json(parent_sha256);
  entry["seed"] = seed;
  entry["results"] = results;
  return entry;
}

}  // namespace hone
