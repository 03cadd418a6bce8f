// Options of `eval`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/low_bit.h"
#include "cli/tool.h"
#include "report/report.h"
#include "report/requirement.h"

namespace hone::cli {

struct EvalOptions {
  std::vector<std::string> models, data, require;
  std::vector<std::string> tasks;          // "hellaswag=FILE"; sets `answers`
  std::vector<std::string> examples_from;  // the same, of the examples
  int64_t few_shot = 0;                    // examples before each question
  std::string baseline;
  std::optional<int64_t> context, stride;
  bool answers = false;  // score the answers of questions, not text
  int64_t limit = 0, prefill_chunk = 4096;
  bool speed = true;
  std::string parallel;  // empty: one process
  std::string precision = "auto", format = "table", output = "-", plot, samples;
  bool force = false;
  bool exits = false;  // all of them, and what thresholds give
  std::string exit, exit_criterion = "gap";
  std::optional<double> calibrate_exits;  // the agreement to promise
  bool retrieval = false;                 // of images by sounds and sounds by images, in place of scores
  LowBitOptions low_bit;

  bool about_exits() const { return exits || !exit.empty() || calibrate_exits; }
  void add(CLI::App& app);
  // What can be refused before anything is read: Error(usage).
  void check() const;
  // Name and path; Error(usage).
  static std::pair<std::string, std::string> task_of(const std::string& text, const char* option = "--task");
  std::vector<std::string> names_of_tasks() const;
  void warn_of_idle_chunk(int64_t longest) const;  // window, in tokens
  DType type() const;
  kernels::ActivationRounding rounding() const;  // of all models
  // Parsed, over the metrics that this call will measure; `choices`: of questions with several answers, too. Throws
  // Error(usage).
  std::vector<Requirement> requirements(bool choices) const;

 private:
  void check_tasks() const;
  void check_exits() const;
  void check_retrieval() const;

  const CLI::App* app_ = nullptr;
};

// For Tool::exclusions.
bool stride_exceeds_context(const ValuesOf& values);

}  // namespace hone::cli
