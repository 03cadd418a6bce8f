#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/rows.h"

namespace hone {
namespace {

double fraction(int64_t part, int64_t whole) {
  return std::clamp(static_cast<double>(part) / static_cast<double>(std::max<int64_t>(whole, 1)), 0.0, 1.0);
}

double half_a_wave(double progress) {
  return 0.5 * (1 + std::cos(std::numbers::pi * progress));
}

double cosine_rate(const Schedule& s, int64_t step) {
  return s.floor + (1 - s.floor) * half_a_wave(fraction(step - s.warmup, s.steps - s.warmup));
}

// Hu et al., arXiv 2404.06395.
double stable_rate(const Schedule& s, int64_t step) {
  const int64_t start = s.steps - static_cast<int64_t>(std::llround(s.decay * static_cast<double>(s.steps)));
  return step < start ? 1 : 1 - (1 - s.floor) * fraction(step - start, s.steps - start);
}

double constant_rate(const Schedule&, int64_t) {
  return 1;
}

constexpr ScheduleKind schedule_rows[] = {
    {"cosine", "falls as half a wave does", cosine_rate, true, false},
    {"wsd", "warmup, stable, decay", stable_rate, true, true},
    {"constant", "stays", constant_rate, false, false},
};

double constant_decay(double) {
  return 1;
}

double linear_decay(double progress) {
  return 1 - progress;
}

constexpr DecaySchedule decay_rows[] = {
    {"constant", "it stays", constant_decay},
    {"linear", "evenly to 0 over the steps", linear_decay},
    {"cosine", "to 0 as half a wave does", half_a_wave},
};

}  // namespace

std::span<const ScheduleKind> schedule_kinds() {
  return schedule_rows;
}

const ScheduleKind& schedule_named(const std::string& name) {
  return row_called(schedule_kinds(), name, "schedule");
}

std::span<const DecaySchedule> decay_schedules() {
  return decay_rows;
}

const DecaySchedule& decay_schedule_named(const std::string& name) {
  return row_called(decay_schedules(), name, "schedule of weight decay");
}

double DecaySchedule::part(int64_t step, int64_t steps) const {
  return part_at(fraction(step, steps - 1));
}

double Schedule::at(int64_t step) const {
  // The first step already learns, and the last of the warm-up reaches the peak.
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  return peak * kind->part(*this, step);
}

}  // namespace hone
