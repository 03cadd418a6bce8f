// Options of many texts at once, and `generate --input`.
#pragma once

#include <string>
#include <vector>

#include "cli/effects.h"
#include "cli/generate_options.h"
#include "serve/engine.h"

namespace hone::cli {

// Of an engine; `serve` has them, too.
struct EngineOptions {
  int64_t parallel = 16, cache_tokens = 0, page = kernels::attention_block;
  bool no_reuse = false;
  std::string order = std::string(service_orders().front().name);
  std::string parts;  // of --parallel tensor:2, where ranks take it: parallel_parts()

  // `ranks`: how those that mpirun starts may divide the model, in words, which then is what --parallel means where
  // `option` is not given; empty: not at all.
  // `shared`: what besides the cache is made for by itself, in words.
  void add(CLI::Option_group* group, const std::string& ranks, const std::string& option = "",
           const std::string& shared = "");
  void check() const;  // Error(usage)
  EngineSettings settings() const;
};

struct BatchOptions {
  std::string input, output;
  bool ordered = false;
  bool force = false;  // as generate has it
  std::optional<int64_t> logprobs;
  EngineOptions engine;

  void add(CLI::App& app);
  bool given() const { return !input.empty(); }
  // Throws Error(usage) for one file without the other.
  void check() const;
  std::vector<Idle> idle() const;
};

// The exit status: 3 where a line was broken, after all others are written.
int generate_batch(const GenerateOptions& options, const BatchOptions& batch, const GenerateSettings& settings,
                   const Common& common);

}  // namespace hone::cli
