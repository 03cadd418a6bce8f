// Options of `train` for lines that are sequences of their own: what of them is learned, and how they are changed.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/run_options.h"
#include "feed/sequence.h"
#include "media/medium.h"
#include "train/objectives/settings.h"

namespace hone::cli {

struct ExampleOptions {
  std::string loss = "all";
  std::vector<std::string> augment = std::vector<std::string>(all_media().size());  // by their places
  int64_t media_cache = int64_t{1} << 30;
  bool skip_broken = false;
  std::string contrastive;  // W[:LEFT,RIGHT]; empty: none
  std::string contrastive_loss = "siglip";

  void add(RunOptions& run);
  // Lines are sequences of their own: they have parts, or some of them alone is scored.
  bool taken(const std::vector<std::string>& data) const;
  FeedSettings feed(bool augmented) const;
  ContrastiveSettings contrast() const;               // a weight of 0: none
  std::vector<std::string> contrasted_media() const;  // two names, or none
  // What can be refused before reading anything, and what has no effect where there are no such lines: Error(usage).
  void check(const CLI::App& app) const;
  void check_effects(const CLI::App& app, bool examples) const;
  // Of a run whose batches have so many sequences, on these lines. Error(usage), Error(input).
  void check_pairs(const Examples& lines, int64_t batch) const;
};

}  // namespace hone::cli
