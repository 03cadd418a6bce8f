// A whole run: steps, validation, checkpoints, early stopping, signals, logs.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "dataset/corpus.h"
#include "model/store.h"
#include "train/trainer.h"

namespace hone {

struct RunSettings {
  StepSettings step;
  int64_t context = 256;
  int64_t valid_every = 0;   // steps between validations; 0: only at the end
  int64_t valid_tokens = 0;  // of the validation text that are scored; 0: all
  int64_t patience = 0;      // validations without improvement before stopping; 0: never
  bool keep_best = false;    // end with the parameters of the best validation
  std::string checkpoint;    // path, or empty
  int64_t save_every = 0;    // steps between checkpoints
  std::string log;           // JSONL path, or empty
  int64_t log_every = 10;
  std::string plot;                               // SVG path, or empty
  std::function<void(int64_t step)> before_step;  // e.g. a sparsity schedule
  nlohmann::json description;  // of everything that shapes the run; a checkpoint is resumed only under the same
};

struct RunResult {
  int64_t steps = 0;                 // done in all, resumed ones included
  int64_t tokens = 0;                // trained on
  double loss = 0;                   // of the last steps, smoothed
  std::optional<double> valid_loss;  // of the parameters that the model is left with
  double seconds = 0;                // of this process
  double tokens_per_second = 0;      // training alone, of this process
  int signal = 0;                    // stopped by this signal; the checkpoint, where wanted, is written
  bool stopped_early = false;
};

// Trains `model` in place. `valid` may be null. With `resume`, continues from that file's run state (whose parameters
// `model` was loaded from). Throws Error(diverged) when the loss is no longer finite or explodes: the last checkpoint
// is left as it was.
RunResult run_training(Model& model, const Corpus& train, const Corpus* valid, const RunSettings& settings,
                       const ModelFile* resume = nullptr);

}  // namespace hone
