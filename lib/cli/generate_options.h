// Options of `generate`, and the prompts that they name.
#pragma once

#include <string>
#include <vector>

#include "cli/low_bit.h"
#include "cli/tool.h"
#include "media/medium.h"
#include "model/store.h"
#include "serve/generate.h"

namespace hone::cli {

struct GenerateOptions {
  std::string model;
  std::vector<std::string> prompts;
  std::string prompt_file;
  bool lines = false;
  std::vector<std::vector<std::string>> files = std::vector<std::vector<std::string>>(all_media().size());  // of media
  int64_t tokens = 200, top_k = 0, prefill_chunk = 512;
  double temperature = 0.8, top_p = 1, repetition_penalty = 1;
  std::vector<std::string> stops;
  bool ignore_end = false, echo = false, stats = false;
  std::string draft;
  int64_t draft_tokens = most_drafted;
  double draft_min_probability = 0.4;
  std::string exit, exit_fill = "exact", report;
  int64_t max_depth = 0;
  bool force = false;
  std::string parallel;  // tensor:RANKS, or empty: one process
  std::string precision = "auto", format = "text";
  LowBitOptions low_bit;

  void add(CLI::App& app);
  // What can be refused before anything is read: Error(usage). The draft is not opened.
  GenerateSettings settings() const;
  // How deep tokens go: Error(usage) as check() of serve/generate.h, and for exits that are not calibrated.
  ExitSettings exits(const Model& model) const;
  bool leaves_early() const { return !exit.empty() || max_depth > 0; }
  bool reads_standard_input() const;
  // Whether prompts are typed: none is named, and standard input is a terminal.
  bool typed() const;
  // What stands before each prompt, in the order of the command line.
  std::vector<std::pair<const Medium*, std::string>> media() const;
  // From --prompt, --prompt-file or standard input, in order. Throws Error(input) for what cannot be read.
  std::vector<std::string> read_prompts() const;

 private:
  void check_exits() const;

  const CLI::App* app_ = nullptr;
};

}  // namespace hone::cli
