// Options of `train` about a teacher: who it is, what of it counts, and where what it says is kept.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/run_options.h"
#include "dataset/corpus.h"
#include "model/store.h"
#include "train/run.h"

namespace hone::cli {

// FILE[:WEIGHT[:TEMPERATURE]]
struct TeacherSpec {
  std::string path;
  double weight = 1, temperature = 1;
};
TeacherSpec parse_teacher(const std::string& text);  // Error(usage) for numbers that cannot be

struct TeacherOptions {
  std::optional<std::string> teacher;
  std::string cache;
  int64_t top = 16;
  double hidden = 0;

  void add(RunOptions& run);
  void check(const CLI::App& app) const;  // Error(usage), before anything is read
  std::string path() const { return teacher ? parse_teacher(*teacher).path : ""; }

  // What a checkpoint is resumed under, of a run without them too: {"teacher": …, "teacher_cache": …}.
  nlohmann::json description(int64_t context) const;
  static nlohmann::json description_of_none();
  nlohmann::json lineage() const;  // {"sha256", "weight", …}; null without a teacher

  // Loads the teacher into the settings or, where its predictions are kept already, only those. Error(usage) for one
  // that does not fit the student, Error(input) for a file that cannot be read.
  void load(const Model& student, const Corpus& text, RunSettings& settings);
  // Writes the cache where there is none, and lets the teacher go.
  void fill_cache(const Corpus& text, RunSettings& settings);
  void take_cache(const Corpus& text, RunSettings& settings);  // that another rank has written, in place of the teacher

 private:
  std::string sha256() const;
  Model loaded(const Model& student, const RunSettings& settings) const;
  void check_fits(const Model& teacher, const Model& student, const RunSettings& settings) const;

  std::shared_ptr<std::string> sha256_ = std::make_shared<std::string>();  // copies share it
  std::shared_ptr<const Transformer> model_;                               // whose predictions are to be kept
  int64_t vocabulary_ = 0;
};

}  // namespace hone::cli
