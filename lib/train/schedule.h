// Learning rates over the steps of a run, and what becomes of its weight decay. A new one is a row in schedule.cpp.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace hone {

struct Schedule;

// A row of the table of schedules.
struct ScheduleKind {
  std::string_view name;
  std::string_view what;  // for people
  // Of the peak, at a step behind the warm-up: from 1 on.
  double (*part)(const Schedule& schedule, int64_t step);
  bool falls;       // asks Schedule::floor
  bool falls_late;  // asks Schedule::decay
};
std::span<const ScheduleKind> schedule_kinds();               // the first is the default
const ScheduleKind& schedule_named(const std::string& name);  // Error(usage) listing them

// What a run leaves of the weight decay, a row of its table.
struct DecaySchedule {
  std::string_view name;
  std::string_view what;                           // for people
  double (*part_at)(double progress);              // 0 at the first step, 1 at the last
  double part(int64_t step, int64_t steps) const;  // of step 0 … steps - 1: from 1 on
};
std::span<const DecaySchedule> decay_schedules();                    // the first is the default
const DecaySchedule& decay_schedule_named(const std::string& name);  // Error(usage) listing them

struct Schedule {
  const ScheduleKind* kind = schedule_kinds().data();
  double peak = 1e-3;
  double floor = 0.1;    // fraction of the peak at the end of the decay
  int64_t warmup = 100;  // steps of linear rise from 0
  int64_t steps = 1000;  // all steps
  double decay = 0.2;    // the last fraction of the steps, of a kind that falls in these alone

  double at(int64_t step) const;  // of step 0 … steps-1
};

}  // namespace hone
