// Options of `train` about depth: exits of a model, and layers that sequences or tokens pass by.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/run_options.h"
#include "model/config.h"
#include "train/trainer.h"

namespace hone::cli {

struct DepthOptions {
  std::optional<std::string> exits;
  std::string exit_loss = "0.5";
  std::string dropout = "0";     // of layers
  std::optional<double> router;  // of the tokens that go through; none: all
  std::optional<std::string> router_layers;

  void add(RunOptions& run);
  void check() const;  // what can be refused before reading anything: Error(usage)

  // The exits that --exits names, for a model of so many layers; without it those of `there`.
  std::vector<int64_t> depths(const Config& there) const;
  // That configuration with the routers of depth that are asked for; without --depth-router as it is.
  Config routed(Config there) const;
  // Of a run of a model with this configuration: Error(usage) for an option that it has no use for.
  void training(const Config& config, StepSettings& step) const;

 private:
  const RunOptions* options_ = nullptr;
};

}  // namespace hone::cli
