// Learning rates over the steps of a run.
#pragma once

#include <cstdint>
#include <string>

namespace hone {

enum class ScheduleKind { cosine, warmup_stable_decay, constant };
ScheduleKind schedule_named(const std::string& name);  // "cosine", "wsd", "constant"; Error(usage) listing them

// What a run leaves of the weight decay: all of it, or less and less until none is left at the end.
enum class DecaySchedule { constant, linear, cosine };
DecaySchedule decay_schedule_named(const std::string& name);             // Error(usage) listing them
double decay_part(DecaySchedule schedule, int64_t step, int64_t steps);  // of step 0 … steps - 1: from 1 to 0

struct Schedule {
  ScheduleKind kind = ScheduleKind::cosine;
  double peak = 1e-3;
  double floor = 0.1;    // fraction of the peak at the end of the decay
  int64_t warmup = 100;  // steps of linear rise from 0
  int64_t steps = 1000;  // all steps
  double decay = 0.2;    // wsd: the last fraction of the steps, decaying linearly (Hu et al., arXiv 2404.06395)

  double at(int64_t step) const;  // of step 0 … steps-1
};

}  // namespace hone
