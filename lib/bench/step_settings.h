// Steps of training that bench times.
#pragma once

#include <string>

#include "bench/models.h"
#include "train/trainer.h"

namespace hone {

// Of batches of `batch` sequences.
StepSettings timed_steps(const Transformer& model, int64_t batch, const BenchSettings& settings,
                         const std::string& recompute);

}  // namespace hone
