// Routers in a call of the model: what training asks of them, and what they report.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "kernels/routing/routing.h"

namespace hone {

// Where the tokens of one layer's mixture went.
struct LayerRouting {
  int64_t tokens = 0;
  // Of each expert, the tokens that chose it, those it left out included; empty for a dense layer.
  std::vector<int64_t> load;
  int64_t dropped = 0;                  // choices left out for want of capacity
  double entropy = 0;                   // sum over tokens of that of the router's distribution, nats
  double balance_loss = 0, z_loss = 0;  // weighted, summed over calls
  int64_t calls = 0;

  double mean_load() const {
    return static_cast<double>(std::accumulate(load.begin(), load.end(), int64_t{0})) /
           static_cast<double>(load.size());
  }
  double largest_over_mean() const {
    return static_cast<double>(*std::max_element(load.begin(), load.end())) / mean_load();
  }
  double mean_entropy() const { return entropy / static_cast<double>(tokens); }
};

using ModelRouting = std::vector<LayerRouting>;  // by layer; a dense one has no load

// Adds what calls of one model have reported.
void add(ModelRouting& to, const ModelRouting& more);

// Which tokens of one layer with a router of depth (nn/depth_router.h) went through it.
struct LayerDepth {
  int64_t tokens = 0, passed = 0;
  // Of whole sequences: tokens of which it is known whether they are among the best, and of which the predictor agrees.
  int64_t compared = 0, agreed = 0;

  double fraction() const { return static_cast<double>(passed) / static_cast<double>(tokens); }
  double agreement() const { return static_cast<double>(agreed) / static_cast<double>(compared); }
};

using ModelDepth = std::vector<LayerDepth>;  // by layer; one without such a router has no tokens

void add(ModelDepth& to, const ModelDepth& more);
LayerDepth sum(const ModelDepth& layers);

// What a call of the model asks of all routers. The defaults are those of inference: nothing is added to the choice,
// and nothing is lost.
struct RouterCall {
  kernels::RouterNoise noise = kernels::RouterNoise::none;
  float temperature = 1;
  double balance_weight = 0;  // see ops::RouteSettings
  double z_weight = 0;
  double capacity_factor = 0;
  // Of the calls before this one whose gradients go into the same step, or null: their loads count in the balance loss.
  const ModelRouting* earlier = nullptr;
};

}  // namespace hone
