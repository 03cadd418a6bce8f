// What the tools that write a model share: the files they are given, and how they end.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/tool.h"
#include "report/report.h"

namespace hone::cli {

// Of a tool that makes one model of another.
struct ModelFiles {
  std::string model, output, report, format = "table";
  bool force = false;

  void add_model(CLI::App& app, const std::string& description);
  void add(CLI::App& app, const std::string& report_description);
  // Before the work: throws Error(usage) or Error(input) for a target or report that cannot be written, and for files
  // of the call that are one. `calibration`: the texts of that option.
  void check(const std::vector<std::string>& calibration, const Common& common) const;
  void show(const Report& layers) const;  // on stderr, where no file is to have it

  // The model, all of whose numbers are finite. One that no text runs through is read weight by weight, when each is
  // changed: only then is it known to be sound.
  Model load(bool text_runs_through) const;
  // Puts weights that are done into a file beside the output, so that memory holds one at a time.
  std::function<std::shared_ptr<Weight>(std::shared_ptr<Weight>)> spill() const;
};

// A stage that is done.
struct Stage {
  const char* tool;
  std::string parent_sha256;    // of the file that it began with, or empty
  nlohmann::json results;       // for the lineage
  nlohmann::json printed = {};  // members of the result on stdout, beside those of describe_written()
  // More of them, which take a while to measure: asked for once the model is written, or nothing.
  std::function<nlohmann::json()> measured = {};
};

// Saves a finished model with its new stage; where: WrittenFile::path is another than `output` if that is taken by now.
WrittenFile save_stage(Model& model, const Stage& stage, const std::string& output, bool force, const Common& common);

// What an option beside --report asks for, done but for being written.
struct LateText {
  std::string option, path, text;
};

// Saves it, then writes the report of its layers and what is to be `beside` it, and prints what was written. Returns 0,
// or throws Error(input) in the end where not all of that could be written where it was wanted.
int finish(Model& model, const Stage& stage, const Report& layers, const ModelSize& size, const ModelFiles& files,
           const Common& common, const LateText& beside = {});

}  // namespace hone::cli
