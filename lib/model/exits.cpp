#include "model/exits.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/spelling.h"

namespace hone {
namespace {

constexpr std::string_view every_prefix = "every:";

void require_inside(int64_t depth, int64_t layers) {
  if (layers < 2) throw usage_error("exits stand between layers, and the model has only one");
  if (depth < 1 || depth >= layers)
    throw usage_error("an exit behind {}: the model has {}, and exits stand behind 1 to {} of them",
                      counted(depth, "layer"), layers, layers - 1);
}

}  // namespace

std::vector<int64_t> exits_of(const Config& config) {
  std::vector<int64_t> depths;
  for (size_t i = 0; i < config.layers.size(); ++i)
    if (config.layers[i].exit) depths.push_back(static_cast<int64_t>(i) + 1);
  return depths;
}

std::vector<int64_t> parse_exits(const std::string& text, int64_t layers) {
  const auto wrong = [&] { return usage_error("exits '{}': write every:K or a list such as 2,4,6", text); };
  const auto number_of = [&](std::string_view word) {
    int64_t number = 0;
    const char* const end = word.data() + word.size();
    const auto [stop, failure] = std::from_chars(word.data(), end, number);
    if (failure == std::errc::result_out_of_range && stop == end)
      throw usage_error("exits '{}': {} is too large: the model has {}", text, word, counted(layers, "layer"));
    if (failure != std::errc() || stop != end) throw wrong();
    return number;
  };
  std::vector<int64_t> depths;
  if (text.starts_with(every_prefix)) {
    const int64_t every = number_of(std::string_view(text).substr(every_prefix.size()));
    if (every < 1) throw wrong();
    require_inside(every, layers);
    for (int64_t depth = every; depth < layers; depth += every) depths.push_back(depth);
    return depths;
  }
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const int64_t depth = number_of(std::string_view(text).substr(begin, end - begin));
    require_inside(depth, layers);
    depths.push_back(depth);
    begin = end + 1;
  }
  std::ranges::sort(depths);
  if (std::ranges::adjacent_find(depths) != depths.end()) throw usage_error("exits '{}' name a place twice", text);
  return depths;
}

void set_exits(Config& config, std::span<const int64_t> depths) {
  for (LayerBlueprint& layer : config.layers) layer.exit = false;
  for (const int64_t depth : depths) {
    require_inside(depth, static_cast<int64_t>(config.layers.size()));
    config.layers[static_cast<size_t>(depth) - 1].exit = true;
  }
}

void require_exits(const Config& config, const std::string& what) {
  if (exits_of(config).empty())
    throw usage_error("{} needs a model that was trained with exits; this one has none", what);
}

}  // namespace hone
