#include "cli/tools.h"

#include "base/error.h"

namespace hone::cli {
namespace {

constexpr ToolName tools[] = {
    {"train", "Trains a transformer on text, or continues one with its masks kept exact."},
    {"prune",
     "Prunes a model: sets the weights that matter least to zero and stores which, as masks, or takes whole neurons, "
     "heads, experts and layers out of it."},
    {"quantize", "Quantizes a model: weights in 8 to 2 bits (or bf16), stored and executed packed."},
    {"eval", "Scores models on text: quality, speed and size, side by side or against a baseline."},
    {"bench", "Measures the speed of models, and how near it comes to what this machine can do."},
    {"generate", "Continues text with a model, token by token."},
    {"serve", "Answers requests over HTTP with a model, many at once."},
    {"inspect", "Shows what is in a model file, or what differs between two."},
    {"convert", "Takes models from the formats of other projects, and to them."},
    {"report", "Makes one page of a run's logs, results and models: curves, tables, and where each file comes from."},
};

}  // namespace

std::span<const ToolName> all_tools() {
  return tools;
}

const char* summary_of(std::string_view tool) {
  for (const ToolName& known : tools)
    if (known.name == tool) return known.summary;
  throw internal_error("the tool '{}' has no line in cli/tools.cpp", tool);
}

std::vector<std::string> tool_names() {
  std::vector<std::string> names;
  for (const ToolName& tool : tools) names.emplace_back(tool.name);
  return names;
}

}  // namespace hone::cli
