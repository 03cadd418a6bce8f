// Lineage: what was done to a model, stage by stage. It lies in the model file as a JSON list.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace hone {

// One stage: {tool, version, arguments, parent_sha256, seed, results}. `parent_sha256` is that of the file the stage
// started from, empty (null in the entry) for a model from scratch. Holds no time and no machine: equal runs write
// equal bytes. Arguments that are not UTF-8 (a path may be any bytes) have the offending bytes replaced by U+FFFD.
nlohmann::json lineage_entry(const std::string& tool, const std::vector<std::string>& arguments,
                             const std::string& parent_sha256, uint64_t seed, const nlohmann::json& results);

}  // namespace hone
