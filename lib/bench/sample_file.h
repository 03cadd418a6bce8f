// Scores of answers on their way to a file of samples: an interrupted run goes on.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/part_file.h"
#include "dataset/questions.h"
#include "measure/evaluate.h"

namespace hone {

// What of questions is scored, in few letters.
std::string digest_of(const Questions& questions);

// The scores of each group of windows are written, as they come, to "SAMPLES.part". Models are counted from 0.
class SampleFile {
 public:
  // `of`: models, questions and what the scores depend on beside them. Throws as PartFile, and Error(input) for a line
  // that is damaged.
  SampleFile(const std::string& path, const nlohmann::json& of, bool force);
  ~SampleFile();

  int64_t found() const;  // answers that an earlier run has scored, of all models
  // Puts what an earlier run has counted of this model (attention, routing, depth) where `settings` count it, and lets
  // its scores be found, and new ones written: until the next call, while `settings` are there.
  void begin(size_t model, EvaluateSettings& settings);
  void remove();  // the samples are written

 private:
  class Log;
  PartFile part_;
  std::vector<std::unique_ptr<Log>> logs_;  // by model
};

}  // namespace hone
