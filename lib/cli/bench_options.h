// Options of the bench tool.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "bench/kernels.h"
#include "bench/models.h"
#include "cli/low_bit.h"
#include "cli/replay_options.h"
#include "cli/tool.h"

namespace hone::cli {

struct BenchOptions {
  std::vector<std::string> models;
  std::vector<int64_t> prompts;  // empty: 512, or with --train the model's context
  std::vector<int64_t> batches = {1};
  std::vector<std::string> attention;  // kinds to compare; none: each model's own
  std::vector<std::string> recompute;  // with train: plans to compare; none: "none"
  std::optional<int64_t> prefill_chunk;
  std::vector<int64_t> generates;  // one at most; none: 64
  bool train = false;
  int64_t steps = 2;
  std::vector<std::string> drafts, exits;  // to compare, behind prompts of `data`
  std::string exit_fill = "exact";
  std::string data;
  std::vector<std::string> parts;  // media before the text of prompts
  int64_t draft_tokens = most_drafted;
  double draft_min_probability = 0.4;
  bool kernels = false;
  ReplayOptions replay;
  std::vector<std::string> plans;
  LowBitOptions low_bit;
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
  bool writes() const { return !drafts.empty() || !exits.empty() || !data.empty(); }
  BenchSettings settings(const Common& common) const;
  RequestsSettings requests_settings(const Common& common) const;
  KernelsSettings kernels_settings(const Common& common) const;

 private:
  void check_writing() const;
  void check_parts() const;
  void check_replay() const;
  void check_plans() const;
  void check_effects() const;  // options that would be without effect

  const CLI::App* app_ = nullptr;
};

}  // namespace hone::cli
