// How a run of train ends: with the model, its result on stdout, and what was to be written beside it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cli/train_options.h"
#include "cli/train_start.h"
#include "report/late_texts.h"
#include "train/journal.h"

namespace hone::cli {

class TrainEnd {
 public:
  // `start`: whose model is trained and saved; `teacher`: for the lineage.
  TrainEnd(const TrainOptions& options, const Common& common, const RankGrid& grid, TrainStart& start,
           const TeacherOptions& teacher)
      : o_(options), common_(common), grid_(grid), start_(start), teacher_(teacher) {}

  // The model first, then what is secondary to it: a status says what of that is missing. `rounding`: of
  // --quantize-aware, or null. Error(input) where the model is whole, but not all beside it, or it lies elsewhere.
  int finish(const RunResult& result, Journal& journal, QuantizeAware* rounding);
  int finish_untrained();  // the same of a run of no steps

 private:
  // 0; Error(input) with what is missing, and where the model is if it had to go elsewhere than it was asked to.
  int status(LateTexts& late) const;
  void save(const nlohmann::json& results, QuantizeAware* rounding);
  void write(nlohmann::json results, QuantizeAware* rounding);

  const TrainOptions& o_;
  const Common& common_;
  const RankGrid& grid_;
  TrainStart& start_;
  const TeacherOptions& teacher_;
  std::string saved_at_;
  double rate_ = 0;  // tokens a second
};

}  // namespace hone::cli
