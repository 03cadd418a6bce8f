// A whole run: steps, validation, checkpoints, early stopping, signals, logs.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "dataset/corpus.h"
#include "model/store.h"
#include "train/average.h"
#include "train/journal.h"
#include "train/trainer.h"

namespace hone {

// Several ranks of step.grid train together: each calls run_training() with the same of everything, and has the same
// model and result in the end. Rank 0 writes the checkpoint; only it is given a journal. A model
// in parts (Transformer) has those of step.grid.row.
struct RunSettings {
  StepSettings step;
  Shuffle shuffle = Shuffle::windows;
  int64_t context = 256;     // of validations, and of training where step.curriculum is empty
  int64_t valid_every = 0;   // steps between validations; 0: only at the end
  int64_t valid_tokens = 0;  // of the validation text that are scored; 0: all
  int64_t patience = 0;      // validations without improvement before stopping; 0: never
  bool keep_best = false;    // end with the parameters of the best validation
  // Of parameters, that the run ends with. With keep_best both are validated, and the better competes.
  AverageRule average = {};
  // Validations after so many steps or fewer do not compete for keep_best and patience: the model is still being
  // pruned, and parameters from before would not be what was scored.
  int64_t competes_after = 0;
  std::string checkpoint;      // path, or empty
  int64_t save_every = 0;      // steps between checkpoints
  Journal* journal = nullptr;  // may be null
  int64_t log_every = 10;
  std::function<void(int64_t step)> before_step;  // e.g. a sparsity schedule; the same step may be begun twice
  nlohmann::json description;  // of everything that shapes the run; a checkpoint is resumed only under the same
  nlohmann::json description_defaults;  // of what checkpoints from before an option do not say
  nlohmann::json stage;                 // the run's entry of the lineage, for its checkpoints; null: none
};

struct RunResult {
  int64_t steps = 0;                 // done in all, resumed ones included
  int64_t tokens = 0;                // trained on
  int64_t kept_step = 0;             // whose parameters the model is left with
  double loss = 0;                   // of the steps up to that one, smoothed
  std::optional<double> valid_loss;  // of the parameters that the model is left with
  double seconds = 0;                // of this process
  double tokens_per_second = 0;      // training alone, of this process
  int signal = 0;                    // stopped by this signal
  bool stopped_early = false;
  bool checkpoint_saved = false;  // the state that the run ended in is in settings.checkpoint
  // Why the last that was due could not be written, which a warning has said, as of earlier ones; "": it was.
  std::string checkpoint_missing;
};

// What a run is trained and validated on.
struct RunData {
  BatchSource& train;
  std::function<double()> validate;  // the loss of the model as it is; empty: no validation
};

// What run_training() would refuse, found without taking memory: Error(usage) for a model that cannot be trained or a
// description other than the checkpoint's, Error(input) for a text that is too short or has no documents to shuffle.
void check_run(const Transformer& model, const Corpus& train, const Corpus* valid, const RunSettings& settings,
               const ModelFile* resume = nullptr);

// Trains `model` in place. `valid` may be null. With `resume`, continues from that file's run state (whose parameters
// `model` was loaded from); a run that patience had ended stays ended. A signal ends the run within a step: what is
// begun is dropped, and done by a resumed run. It keeps the best parameters where keep_best asks for them, unless a
// checkpoint has everything. A log or checkpoint that cannot be written does not end the run. Throws as check_run(),
// and Error(diverged) when the loss is no longer finite or explodes: the last checkpoint is left as it was.
RunResult run_training(Model& model, const Corpus& train, const Corpus* valid, const RunSettings& settings,
                       const ModelFile* resume = nullptr);
// The same on what need be no text.
RunResult run_training(Model& model, const RunData& data, const RunSettings& settings,
                       const ModelFile* resume = nullptr);

}  // namespace hone
