// Options that describe a new model: a preset, and what differs from it.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/run_options.h"
#include "media/medium.h"
#include "model/config.h"

namespace hone::cli {

struct ModelOptions {
  std::optional<int64_t> layers, dim, heads, kv_heads, head_dim, ffn, context, vocabulary;
  std::optional<std::string> preset, norm, activation, positions, attention, attention_score;
  std::optional<double> rope_theta, norm_epsilon, attention_softcap, logit_softcap, init_std;
  bool qk_norm = false;
  std::optional<bool> biases, tied;
  std::vector<std::optional<std::string>> encoders = std::vector<std::optional<std::string>>(all_media().size());
  std::optional<std::string> media_attention, modality_experts;

  void add(RunOptions& run);
  // The name of the first option given that describes a new model's shape, or "": an existing model has a shape
  // already.
  std::string shape_option() const;
  // For a tokenizer with `tokens` ids. Throws Error(usage) for shapes that cannot be.
  Config config(int64_t tokens) const;

 private:
  const RunOptions* options_ = nullptr;
};

}  // namespace hone::cli
