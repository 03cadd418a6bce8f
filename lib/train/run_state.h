// What a run must remember to continue as if it had never stopped, and its place in a checkpoint.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "model/store.h"
#include "train/average.h"
#include "train/optimizer.h"
#include "train/run.h"

namespace hone {

struct RunState {
  int64_t step = 0, tokens = 0;        // done
  double smoothed = 0, lowest = 0;     // loss; 0 before the first step
  std::optional<double> best_loss;     // of validations
  int64_t best_step = 0, stale = 0;    // stale: validations since
  double best_smoothed = 0;            // loss at the best step
  std::map<std::string, Tensor> best;  // parameters of the best validation, where they are wanted
  int64_t validated = 0;               // the step of the last validation, which a signal may have kept `step` from
  std::optional<double> valid_loss;    // of it
  StepResult last;                     // of `step`, without routing
};

// Parameters by name, copied out of a model and put back; promised, what other ranks have.
std::map<std::string, Tensor> copy_parameters(const Transformer& model);
void put_parameters(Transformer& model, const std::map<std::string, Tensor>& parameters);

// On every rank of settings.step.grid, of which the first writes: model and run state to `path`, replacing it, with
// settings.description, which must be the same when the run is resumed, and an entry of the lineage that says how far
// it has come. `average` may be null.
void save_run(const std::string& path, Model& model, const RunState& state, const RunSettings& settings,
              const BatchSource& source, const Optimizer& optimizer, const ParameterAverage* average);

// A checkpoint's lineage without the entry of its own run.
nlohmann::json lineage_before_run(nlohmann::json lineage);

int64_t step_of_run(const ModelFile& file);  // steps that a checkpoint's run has done; Error(input) where it is none

// Throws Error(usage) when settings.description differs from the checkpoint's, naming the first difference;
// Error(input) when it is no checkpoint. What the checkpoint does not say counts as in settings.description_defaults.
void check_same_run(const ModelFile& file, const RunSettings& settings);

// Throws as check_same_run(); Error(input) when the state is damaged.
RunState restore_run(const ModelFile& file, const RunSettings& settings, Transformer& model, BatchSource& source,
                     Optimizer& optimizer, ParameterAverage* average);

}  // namespace hone
