// How every way of eval ends: with the report, the other texts it was asked for, and what was required of the numbers.
#pragma once

#include <span>
#include <string>

#include "cli/eval_options.h"
#include "report/late_texts.h"
#include "report/report.h"
#include "report/requirement.h"

namespace hone::cli {

class EvalEnd {
 public:
  EvalEnd(const EvalOptions& options, const Common& common) : o_(options), common_(common) {}

  // Adds to what all rows have alike: precision (its type and the forms of --activations and --cache-type), threads,
  // instruction set and seed.
  void add_machine(Row& row) const;
  // To --output, or where that fails to standard output: better there than nowhere.
  void write(const Report& report);
  // False where it is nowhere.
  bool write(const std::string& option, const std::string& path, const std::string& text) {
    return late_.write(option, path, text);
  }

  // Says on standard error of each requirement whether it is met.
  void require(const std::string& path, std::span<const Requirement> requirements, const MetricValues& values,
               const MetricValues& baseline = {});
  std::string failed() const;  // how many requirements, and which first; "" where all are met
  // "; " and what could not be written where it was wanted, for the end of another error; "" where nothing is missing.
  std::string missing() const { return late_.missing().empty() ? "" : "; " + late_.missing(); }
  // 0; Error(requirement) where one is not met, Error(input) where something could not be written.
  int status() const;

 private:
  const EvalOptions& o_;
  const Common& common_;
  LateTexts late_{o_.force};
  int required_ = 0, failed_ = 0;
  std::string first_failed_;
};

}  // namespace hone::cli
