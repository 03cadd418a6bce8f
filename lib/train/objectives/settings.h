// What of the objectives is wanted.
#pragma once

#include <memory>

#include "ops/contrastive.h"

namespace hone {

class Teacher;

// Of the divergence from a teacher.
struct DistillationSettings {
  std::shared_ptr<const Teacher> teacher;  // null: none
  float weight = 1;                        // of temperature^2 KL(teacher || model), nats a token
  float temperature = 1;
  float hidden_weight = 0;  // of the distance between the streams behind equal layers
  double bytes = 0;         // that the teacher takes beside the model's training
};

// Of the exits of a model (model/exits.h).
struct ExitLossSettings {
  float weight = 0;     // of all their losses together, beside 1 of the last layer's; 0: none is computed
  bool rotate = false;  // a batch trains one of them after the other, with all the weight, instead of all
};

// Of representations of parts that belong together.
struct ContrastiveSettings {
  float weight = 0;  // 0: none is computed
  ops::ContrastiveLoss loss = ops::ContrastiveLoss::infonce;
};

struct ObjectiveSettings {
  float z_weight = 0;  // of the head's z loss (ops/cross_entropy.h)
  ExitLossSettings exits;
  ContrastiveSettings contrastive;
  DistillationSettings distillation;
};

}  // namespace hone
