// Options of `bench --requests`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/requests/requests.h"
#include "cli/batch_options.h"
#include "cli/low_bit.h"
#include "cli/tool.h"

namespace hone::cli {

struct ReplayOptions {
  std::string requests;  // a trace, or "poisson:RATE,…"; empty: no replay
  int64_t divide = 1, busy_chunk = EngineSettings().busy_chunk;
  std::optional<int64_t> count;
  std::string speed = "1", objective, costs;
  std::vector<std::string> batching;
  bool simulate = false;
  EngineOptions engine;
  std::optional<LengthRange> prompt, generate;  // --prompt and --generate as LOW:HIGH

  void add(CLI::App& app);
  bool given() const { return !requests.empty(); }
  bool drawn() const { return requests.starts_with("poisson:"); }
  void check() const;  // Error(usage) for what cannot be
  std::vector<Idle> idle() const;
  // With what bench says of models, precision and lengths.
  RequestsSettings settings() const;
};

// "64:512". Throws Error(usage).
LengthRange length_range(const std::string& text, CountRange range);

}  // namespace hone::cli
