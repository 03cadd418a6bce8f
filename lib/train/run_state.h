// What a run must remember to continue as if it had never stopped, and its place in a checkpoint.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "dataset/batches.h"
#include "model/store.h"
#include "train/optimizer.h"

namespace hone {

struct RunState {
  int64_t step = 0, tokens = 0;        // done
  double smoothed = 0, lowest = 0;     // loss; 0 before the first step
  std::optional<double> best_loss;     // of validations
  int64_t best_step = 0, stale = 0;    // stale: validations since
  std::map<std::string, Tensor> best;  // parameters of the best validation, where they are wanted
};

// Parameters by name, copied out of a model and put back.
std::map<std::string, Tensor> copy_parameters(Transformer& model);
void put_parameters(Transformer& model, const std::map<std::string, Tensor>& parameters);

// Writes model and run state to `path`, replacing it. `description` is what must be the same when the run is resumed.
void save_run(const std::string& path, Model& model, const RunState& state, const nlohmann::json& description,
              const BatchSampler& sampler, const Optimizer& optimizer);

// Throws Error(usage) when `description` differs from the checkpoint's, naming the first difference; Error(input) when
// the state is damaged or absent.
RunState restore_run(const ModelFile& file, const nlohmann::json& description, BatchSampler& sampler,
                     Optimizer& optimizer);

}  // namespace hone
