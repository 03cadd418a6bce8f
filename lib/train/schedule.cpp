#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace hone {

ScheduleKind schedule_named(const std::string& name) {
  if (name == "cosine") return ScheduleKind::cosine;
  if (name == "wsd") return ScheduleKind::warmup_stable_decay;
  if (name == "constant") return ScheduleKind::constant;
  throw usage_error("unknown schedule '{}'; known: cosine, wsd, constant", name);
}

DecaySchedule decay_schedule_named(const std::string& name) {
  if (name == "constant") return DecaySchedule::constant;
  if (name == "linear") return DecaySchedule::linear;
  if (name == "cosine") return DecaySchedule::cosine;
  throw usage_error("unknown schedule of weight decay '{}'; known: constant, linear, cosine", name);
}

double decay_part(DecaySchedule schedule, int64_t step, int64_t steps) {
  const double t = static_cast<double>(step) / static_cast<double>(std::max<int64_t>(steps - 1, 1));
  if (schedule == DecaySchedule::linear) return 1 - std::min(t, 1.0);
  if (schedule == DecaySchedule::cosine) return 0.5 * (1 + std::cos(std::numbers::pi * std::min(t, 1.0)));
  return 1;
}

double Schedule::at(int64_t step) const {
  // The first step already learns, and the last of the warm-up reaches the peak.
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  const auto fraction = [](int64_t part, int64_t whole) {
    return std::clamp(static_cast<double>(part) / static_cast<double>(std::max<int64_t>(whole, 1)), 0.0, 1.0);
  };
  switch (kind) {
    case ScheduleKind::constant:
      return peak;
    case ScheduleKind::cosine: {
      const double t = fraction(step - warmup, steps - warmup);
      return peak * (floor + (1 - floor) * 0.5 * (1 + std::cos(std::numbers::pi * t)));
    }
    case ScheduleKind::warmup_stable_decay: {
      const int64_t start = steps - static_cast<int64_t>(std::llround(decay * static_cast<double>(steps)));
      if (step < start) return peak;
      return peak * (1 - (1 - floor) * fraction(step - start, steps - start));
    }
  }
  return peak;
}

}  // namespace hone
