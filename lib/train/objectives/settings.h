// What of the objectives is wanted.
#pragma once

#include <memory>

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

struct ObjectiveSettings {
  DistillationSettings distillation;
};

}  // namespace hone
