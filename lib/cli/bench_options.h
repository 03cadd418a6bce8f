// Options of the bench tool.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "cli/tool.h"

namespace hone::cli {

struct BenchOptions {
  std::vector<std::string> models;
  std::vector<int64_t> prompts;  // empty: 512, or with --train the model's context
  std::vector<int64_t> batches = {1};
  std::vector<std::string> attention;  // kinds to compare; none: each model's own
  int64_t prefill_chunk = 2048;
  int64_t generate = 64;
  bool train = false;
  int64_t steps = 2;
  bool kernels = false;
  std::string only;
  int64_t repeat = 5;
  int64_t warmup = 1;
  std::string precision = "auto";
  bool refresh_ceilings = false;
  std::string format = "table";
  std::string plot;
  bool force = false;

  void add(CLI::App& app);
  void check() const;  // Error(usage) for what cannot be
  DType type() const;  // of activations and products

 private:
  void check_effects() const;  // options that would be without effect

  const CLI::App* app_ = nullptr;
};

// One setting of what is measured; every model runs each.
struct BenchPoint {
  int threads = 1;
  int64_t batch = 1;
  int64_t prompt = 0;  // or the context to train with; 0: the model's own
};
std::vector<BenchPoint> bench_points(const BenchOptions& options, const Common& common);

}  // namespace hone::cli
