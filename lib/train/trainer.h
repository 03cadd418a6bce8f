// One step of training: batches in, parameters changed.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "nn/call.h"
#include "train/batch_source.h"
#include "train/curriculum.h"
#include "train/objectives/objective.h"
#include "train/objectives/settings.h"
#include "train/optimizer.h"
#include "train/schedule.h"

namespace hone {

// Of mixtures of experts.
struct RouterTraining {
  RouterNoise noise = RouterNoise::none;
  double temperature_from = 1, temperature_to = 1;  // of the noise: geometric from the first step to the last
  double balance_weight = 0;                        // of the balance loss
  double bias_rate = 0;                             // loss-free balancing: how far a selection bias moves in a step
  double z_weight = 0;                              // of the z loss
  double capacity_factor = 0;                       // 0: no choice is left out

  double temperature(int64_t step, int64_t steps) const;
};

struct StepSettings {
  int64_t batch = 32;      // sequences a batch, of the full context where there is a curriculum
  int64_t accumulate = 1;  // batches whose gradients are averaged before a step
  double clip = 1.0;       // largest norm of the gradients; 0: none
  float dropout = 0;
  double layer_dropout = 0;  // probability that a sequence passes the last layer by; see skip_by_depth()
  DType type = DType::f32;   // of activations and products; masters and optimizer stay f32
  uint64_t seed = 1;
  Schedule schedule;
  DecaySchedule decay = DecaySchedule::constant;  // of the optimizer's weight decay
  OptimizerSettings optimizer;
  ObjectiveSettings objectives;
  // Lengths of windows by step; none: the sampler's all along. Batches keep their tokens: the last stage has `batch`
  // windows.
  std::vector<CurriculumStage> curriculum;
  AttentionMeter* attention = nullptr;  // added to by every step, where wanted
  RouterTraining router;
  RecomputePlan recompute;  // what is kept for the backward pass: no bit of the result depends on it
};

struct StepResult {
  double loss = 0;           // of the first objective: nats a token, mean over the batches
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  int64_t tokens = 0;
  int64_t context = 0;                  // tokens of a window
  double minimized = 0;                 // the sum of all terms
  double router_loss = 0;               // what routers added to it, mean over the batches
  std::map<std::string, double> terms;  // of what was minimized, by name and weighted
  // Of exits, by their depth: the sum of the losses (nats a token) of the batches that trained it, and how many did.
  std::map<std::string, std::pair<double, int64_t>> exit_losses;
  int64_t optimizer_bytes = 0;        // what the optimizer keeps
  int64_t activation_bytes = 0;       // the most that tensors took at once beside what stays after the step
  std::vector<EncoderLoad> encoders;  // what went through each of the model's; none: it has none
  int64_t rows = 0, data_rows = 0;    // that were computed, and those of them that hold data
  ModelDepth depth;                   // by layer; empty for a model without routers of depth
  ModelRouting routing;               // by layer, over the batches; empty for a model without mixtures
};

class Trainer {
 public:
  Trainer(Transformer& model, BatchSource& source, const StepSettings& settings);

  // Runs step `step` (from 0). A loss or gradient that is not finite leaves the parameters as they were; so do a router
  // whose logits are not, which throws RouterError, and a signal, which throws Stopped. The batches are drawn all the
  // same.
  StepResult step(int64_t step);

  Optimizer& optimizer() { return optimizer_; }

 private:
  RouterCall router_call(int64_t step, const ModelRouting& earlier) const;
  StepResult gradients_and_step(int64_t step);
  void add_gradients(int64_t step, int64_t micro, StepResult& result);  // of one batch
  void balance(const ModelRouting& routing);

  Transformer& model_;
  BatchSource& source_;
  StepSettings settings_;
  int64_t full_context_;
  Optimizer optimizer_;
  std::vector<std::unique_ptr<Objective>> objectives_;
  TrainingBatch batch_;
};

}  // namespace hone
