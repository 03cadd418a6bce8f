#include "model/depth_routers.h"

#include <fmt/ranges.h>

#include <map>

#include "base/error.h"

namespace hone {

std::vector<int64_t> depth_routers_of(const Config& config) {
  std::vector<int64_t> layers;
  for (size_t i = 0; i < config.layers.size(); ++i)
    if (config.layers[i].depth_fraction > 0) layers.push_back(static_cast<int64_t>(i));
  return layers;
}

std::string describe_depth_routers(const Config& config) {
  std::map<double, std::vector<int64_t>> by_fraction;
  for (const int64_t layer : depth_routers_of(config))
    by_fraction[config.layers[static_cast<size_t>(layer)].depth_fraction].push_back(layer);
  std::string text;
  for (const auto& [fraction, layers] : by_fraction)
    text += fmt::format("{}{} of the tokens through layer{} {}", text.empty() ? "" : "; ", fraction,
                        layers.size() > 1 ? "s" : "", fmt::join(layers, ", "));
  return text;
}

void set_depth_routers(Config& config, std::span<const int64_t> layers, double fraction) {
  if (!(fraction > 0 && fraction < 1))
    throw usage_error("{} of the tokens cannot be let through a layer: a number above 0 and below 1 is needed",
                      fraction);
  const auto count = static_cast<int64_t>(config.layers.size());
  for (LayerBlueprint& layer : config.layers) layer.depth_fraction = 0;
  for (const int64_t layer : layers) {
    if (layer < 0 || layer >= count)
      throw usage_error("there is no layer {} for a router of depth; the model has layers 0 to {}", layer, count - 1);
    config.layers[static_cast<size_t>(layer)].depth_fraction = fraction;
  }
}

}  // namespace hone
