// Learning rates over the steps of a run.
#pragma once

#include <cstdint>
#include <string>

namespace hone {

enum class ScheduleKind { cosine, warmup_stable_decay, constant };
ScheduleKind schedule_named(const std::string& name);  // "cosine", "wsd", "constant"; Error(usage) listing them

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
