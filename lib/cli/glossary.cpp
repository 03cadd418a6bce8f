#include "cli/glossary.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "cli/config_file.h"

namespace hone::cli {
namespace {

struct Word {
  const char* words;  // of the library
  const char* option;
};

constexpr Word glossary[] = {
    {"replaced by force", "--force"},
    {"no checkpoint was asked for", "--checkpoint"},
    {"the learning rate", "--learning-rate"},
    {"the norm of clipping", "--clip"},
    {"a loss on the router's logits", "--router-z-loss"},
    {"a new run", "--init"},
    {"curriculum", "--curriculum"},
    {"take a batch", "--batch"},
    {"a smaller batch", "--batch"},
    {"leave that part out", "--parts"},
    {"a smaller multiple of widths", "--width-multiple"},
    {"have it begun anew", "--force"},
    {"a baseline model", "--baseline"},
    {"densify", "--densify"},
    {"a shorter prompt", "--prompt"},
    {"fewer tokens after it", "--generate"},
    {"shrink the batch", "--batch"},
    {"or its text", "--generate"},
};

}  // namespace

std::string with_options(const std::string& message, const CLI::App& app) {
  const std::vector<std::string> options = long_names(app);
  std::string text = message;
  for (const Word& word : glossary) {
    const size_t at = text.find(word.words);
    if (at == std::string::npos || text.find(word.option) != std::string::npos) continue;
    if (std::find(options.begin(), options.end(), word.option) == options.end()) continue;
    text.insert(at + std::string(word.words).size(), fmt::format(" ({})", word.option));
  }
  return text;
}

}  // namespace hone::cli
