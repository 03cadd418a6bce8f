// The record of a run: a JSONL file, and a plot of the losses.
#pragma once

#include <optional>
#include <string>

#include "base/error.h"
#include "base/text_output.h"
#include "report/plot.h"
#include "train/trainer.h"

namespace hone {

class Journal {
 public:
  // Empty paths write nothing. `resumed` is the step of the checkpoint that the run continues: of a log that is there,
  // the lines up to that step are kept, and drawn in the plot too. Throws Error(input) when the log cannot be opened or
  // is no log of a run.
  Journal(const std::string& log, const std::string& plot, std::optional<int64_t> resumed = {});

  // One line: step, tokens, loss, valid_loss, learning_rate, gradient_norm, tokens_per_second, rss_bytes,
  // optimizer_bytes, activation_bytes; `terms` (name to value) where the loss has several; `exit_losses` (depth to
  // loss) of exits that the step trained; of mixtures router_loss and a member of `routing` for each layer that has
  // one; of models with encoders padding_fraction and `encoders` (image and audio to the parts and rows that went
  // through them in this step), and `pairs` of parts that were contrasted. It reaches the file at once: a run that is
  // killed leaves the log of what it did. A line that cannot be written is warned of, and ends the log.
  void add(int64_t step, int64_t tokens, const StepResult& result, std::optional<double> valid_loss,
           double tokens_per_second);

  // Windows grow: lines have `context`, the length of theirs, and the plot says when (describe() of the stages).
  void set_windows(const std::string& description) { windows_ = description; }

  void set_encoders(std::vector<std::string> names) { encoders_ = std::move(names); }

  void finish();  // writes the plot; a failure is a warning
  // Why each of them is not complete; "" where nothing failed.
  const std::string& log_missing() const { return log_missing_; }
  const std::string& plot_missing() const { return plot_missing_; }

 private:
  std::string read(const std::string& text, int64_t until);  // the lines to keep
  void draw(int64_t step, double loss, std::optional<double> valid_loss);

  TextOutput log_, plot_;
  std::string log_missing_, plot_missing_;
  std::optional<std::string> windows_;
  std::vector<std::string> encoders_;
  Series losses_{.name = "training"}, valid_losses_{.name = "validation"};
};

}  // namespace hone
