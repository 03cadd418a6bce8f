// The tools that there are: a line each.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hone::cli {

struct ToolName {
  const char* name;
  const char* summary;  // one sentence
};

// In the order of a model's life.
std::span<const ToolName> all_tools();

const char* summary_of(std::string_view tool);  // of one of them

std::vector<std::string> tool_names();

}  // namespace hone::cli
