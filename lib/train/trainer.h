// One step of training: batches in, parameters changed.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "nn/call.h"
#include "nn/skip.h"
#include "train/batch_source.h"
#include "train/curriculum.h"
#include "train/objectives/objective.h"
#include "train/objectives/settings.h"
#include "train/optimizer.h"
#include "train/schedule.h"
#include "train/step_result.h"

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
  int64_t batch = 32;  // sequences a batch, of the full context where there is a curriculum
  // Batches whose gradients are averaged before a step; a multiple of the ranks that share them.
  int64_t accumulate = 1;
  double clip = 1.0;  // largest norm of the gradients; 0: none
  float dropout = 0;
  LayerDropout layer_dropout;  // of whole layers, for whole sequences
  DType type = DType::f32;     // of activations and products; masters and optimizer stay f32
  // Products of the layers' matrices in 8 bits, but for the matrices' own gradients (ops::EightBits).
  bool eight_bits = false;
  uint64_t seed = 1;
  Schedule schedule;
  const DecaySchedule* decay = decay_schedules().data();  // of the optimizer's weight decay
  OptimizerSettings optimizer;
  ObjectiveSettings objectives;
  // Lengths of windows by step; none: the sampler's all along. Batches keep their tokens: the last stage has `batch`
  // windows.
  std::vector<CurriculumStage> curriculum;
  AttentionMeter* attention = nullptr;  // added to by every step, where wanted
  RouterTraining router;
  RecomputePlan recompute;  // what is kept for the backward pass: no bit of the result depends on it
  // Who trains. The ranks of grid.data share each step's batches: batch i is computed by i mod their number. Of a
  // row all compute the same one, each its part; or each its own (DivisionKind::own_batches).
  RankGrid grid;
};

// What steps compute in: "bf16", "f32" or "int8".
std::string precision_of(const StepSettings& settings);

class Trainer {
 public:
  Trainer(Transformer& model, BatchSource& source, const StepSettings& settings);

  // On every rank: runs step `step` (from 0). A loss or gradient that is not finite leaves the parameters as they were;
  // so do a router whose logits are not, which throws RouterError, and a signal, which throws Stopped, on all ranks
  // where it came to one. The batches are drawn all the same.
  StepResult step(int64_t step);
  // Whether what step() threw came to this rank alone: others do not know of it, and nothing can be done with them.
  bool failed_alone() const { return own_turn_; }

  Optimizer& optimizer() { return optimizer_; }

 private:
  // Whether every layer has gradients in every batch, on every rank: they then go on their way as soon as they are
  // final.
  bool sums_meanwhile() const;
  RouterCall router_call(int64_t step, const ModelRouting& earlier) const;
  StepResult gradients_and_step(int64_t step);
  // Of one batch; `earlier`: where the step's batches before it went.
  StepResult batch_gradients(int64_t step, int64_t micro, const ModelRouting& earlier);
  void add_round(int64_t step, int64_t round, StepResult& result);             // a batch on each of grid.data
  void read_batch();                                                           // this rank's
  std::string turn(int64_t step, int64_t round, const ModelRouting& earlier);  // and what it makes of it, in bytes
  void balance(const ModelRouting& routing);

  Transformer& model_;
  BatchSource& source_;
  StepSettings settings_;
  int64_t full_context_;
  Optimizer optimizer_;
  GradientSum sum_;
  std::vector<std::unique_ptr<Objective>> objectives_;
  TrainingBatch batch_;
  bool meanwhile_;         // sums_meanwhile()
  bool own_turn_ = false;  // what is done now others do not hear of if it throws
};

}  // namespace hone
