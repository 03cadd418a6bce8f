// The record of a run: a JSONL file, and a plot of the losses.
#pragma once

#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "measure/plot.h"
#include "train/trainer.h"

namespace hone {

class Journal {
 public:
  // Empty paths write nothing. `append` continues an existing log (a resumed run). Throws Error(input) when the log
  // cannot be opened.
  Journal(const std::string& log, std::string plot, bool append);

  // One line: step, tokens, loss, valid_loss, learning_rate, gradient_norm, tokens_per_second, rss_bytes; of mixtures
  // router_loss and a member of `routing` for each layer that has one.
  void add(int64_t step, int64_t tokens, const StepResult& result, std::optional<double> valid_loss,
           double tokens_per_second);
  void finish();  // writes the plot

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> log_;
  std::string path_, plot_;
  Series losses_{.name = "training"}, valid_losses_{.name = "validation"};
};

}  // namespace hone
