// One step of training: batches in, parameters changed.
#pragma once

#include <cstdint>
#include <vector>

#include "dataset/batches.h"
#include "nn/forward.h"
#include "train/optimizer.h"
#include "train/schedule.h"

namespace hone {

struct StepSettings {
  int64_t batch = 32;         // sequences a batch
  int64_t accumulate = 1;     // batches whose gradients are averaged before a step
  double clip = 1.0;          // largest norm of the gradients; 0: none
  float dropout = 0;
  DType type = DType::f32;    // of activations and products; masters and optimizer stay f32
  uint64_t seed = 1;
  Schedule schedule;
  AdamWSettings adamw;
  AttentionMeter* attention = nullptr;  // added to by every step, where wanted
};

struct StepResult {
  double loss = 0;           // nats a token, mean over the batches
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  int64_t tokens = 0;
};

class Trainer {
 public:
  Trainer(Transformer& model, BatchSampler& sampler, const StepSettings& settings);

  // Runs step `step` (from 0). A loss or gradient that is not finite leaves the parameters as they were.
  StepResult step(int64_t step);

  Optimizer& optimizer() { return optimizer_; }

 private:
  Transformer& model_;
  BatchSampler& sampler_;
  StepSettings settings_;
  Optimizer optimizer_;
  std::vector<int32_t> inputs_, targets_;
};

}  // namespace hone
