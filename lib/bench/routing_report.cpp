#include "bench/routing_report.h"

#include <algorithm>

#include "report/plot.h"

namespace hone {

bool routes(const ModelRouting& routing) {
  return std::any_of(routing.begin(), routing.end(), [](const LayerRouting& layer) { return layer.tokens > 0; });
}

void add_depth(MetricValues& values, const ModelDepth& depth) {
  const LayerDepth all = sum(depth);
  if (all.tokens > 0) values["depth_fraction"] = all.fraction();
  if (all.compared > 0) values["depth_agreement"] = all.agreement();
}

void add_routing(MetricValues& values, const ModelRouting& routing) {
  if (!routes(routing)) return;
  double entropy = 0, largest = 0, dropped = 0, mixtures = 0;
  for (const LayerRouting& layer : routing) {
    if (layer.tokens == 0) continue;
    entropy += layer.mean_entropy();
    largest = std::max(largest, layer.largest_over_mean());
    dropped += static_cast<double>(layer.dropped);
    ++mixtures;
  }
  values["router_entropy"] = entropy / mixtures;
  values["largest_load_over_mean"] = largest;
  values["dropped_tokens"] = dropped;
}

void set_routing(Row& row, const ModelRouting& routing) {
  if (!routes(routing)) return;
  MetricValues values;
  add_routing(values, routing);
  row.set("router_entropy", values["router_entropy"]).set("largest_load_over_mean", values["largest_load_over_mean"]);
  row.set("dropped_tokens", static_cast<int64_t>(values["dropped_tokens"]));
  for (size_t i = 0; i < routing.size(); ++i) {
    const LayerRouting& layer = routing[i];
    if (layer.tokens == 0) continue;
    const double all = layer.mean_load() * static_cast<double>(layer.load.size());
    std::vector<double> shares;
    for (const int64_t load : layer.load) shares.push_back(static_cast<double>(load) / all);
    row.set(fmt::format("expert_load_{}", i), Cell(shares));
    row.set(fmt::format("router_entropy_{}", i), layer.mean_entropy());
  }
}

void hide_routing_details(Report& report) {
  for (const Report::Column& column : std::vector<Report::Column>(report.columns()))
    if (column.name.starts_with("expert_load_") || column.name.starts_with("router_entropy_"))
      report.show_detail(column.name);
}

std::string experts_plot(const std::vector<std::pair<std::string, ModelRouting>>& models) {
  std::vector<Plot> plots;
  for (const auto& [name, routing] : models) {
    if (!routes(routing)) continue;
    Plot plot;
    plot.title = name;
    plot.x.label = "expert";
    plot.y = {.label = "tokens / mean of the layer's experts", .from_zero = true};
    for (size_t i = 0; i < routing.size(); ++i) {
      if (routing[i].tokens == 0) continue;
      Series series{.name = fmt::format("layer {}", i)};
      for (size_t e = 0; e < routing[i].load.size(); ++e) {
        series.x.push_back(static_cast<double>(e));
        series.y.push_back(static_cast<double>(routing[i].load[e]) / routing[i].mean_load());
      }
      plot.series.push_back(std::move(series));
    }
    plots.push_back(std::move(plot));
  }
  return render_svg(plots);
}

}  // namespace hone
