// What reports say of the routers of mixtures of experts.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "nn/routing.h"
#include "report/metric.h"
#include "report/report.h"

namespace hone {

using ModelRouting = std::vector<LayerRouting>;  // by layer; without load where the layer is dense

bool routes(const ModelRouting& routing);  // whether any layer is a mixture

// depth_fraction, and depth_agreement where it is known; nothing for a model without routers of depth.
void add_depth(MetricValues& values, const ModelDepth& depth);

// router_entropy (mean over the mixtures), largest_load_over_mean (largest over them), dropped_tokens.
void add_routing(MetricValues& values, const ModelRouting& routing);
// The same, and for programs `expert_load_L` (the share of each expert of layer L) and `router_entropy_L`.
void set_routing(Row& row, const ModelRouting& routing);
void hide_routing_details(Report& report);  // those two, from tables

// SVG: the load of each expert over the mean, a plot a model, a line a layer.
std::string experts_plot(const std::vector<std::pair<std::string, ModelRouting>>& models);

}  // namespace hone
