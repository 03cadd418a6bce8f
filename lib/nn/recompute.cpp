#include "nn/recompute.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace hone {

std::vector<Stretch> RecomputePlan::stretches(int64_t from, int64_t to) const {
  std::vector<Stretch> all;
  switch (halves) {
    case Halves::none:
      if (from < to) all.push_back({2 * from, 2 * to, false});
      break;
    case Halves::mixers:
    case Halves::feed_forwards:
      for (int64_t half = 2 * from; half < 2 * to; ++half)
        all.push_back({half, half + 1, (half % 2 == 0) == (halves == Halves::mixers)});
      break;
    case Halves::blocks:
      for (int64_t layer = from; layer < to; layer += every)
        all.push_back({2 * layer, 2 * std::min(layer + every, to), true});
      break;
  }
  return all;
}

namespace {

constexpr std::string_view every_prefix = "every:";

struct Named {
  std::string_view name;
  RecomputePlan plan;
};

constexpr Named names[] = {
    {"none", {RecomputePlan::Halves::none}},
    {"attention", {RecomputePlan::Halves::mixers}},
    {"feed_forward", {RecomputePlan::Halves::feed_forwards}},
    {"blocks", {RecomputePlan::Halves::blocks}},
};

}  // namespace

RecomputePlan recompute_plan(const std::string& text) {
  for (const Named& named : names)
    if (named.name == text) return named.plan;
  if (text.starts_with(every_prefix)) {
    int64_t every = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, failure] = std::from_chars(text.data() + every_prefix.size(), end, every);
    if (failure == std::errc() && stop == end && every >= 1) return {RecomputePlan::Halves::blocks, every};
  }
  throw usage_error("what is computed again must be {}, not '{}'", recompute_names, text);
}

std::string to_string(const RecomputePlan& plan) {
  if (plan.every > 1) return fmt::format("{}{}", every_prefix, plan.every);
  for (const Named& named : names)
    if (named.plan == plan) return std::string(named.name);
  throw internal_error("a plan of recomputation without a name");
}

std::vector<RecomputePlan> recompute_plans(int64_t layers) {
  std::vector<RecomputePlan> all;
  for (const Named& named : names) all.push_back(named.plan);
  for (int64_t every = 2; every <= layers; ++every) all.push_back({RecomputePlan::Halves::blocks, every});
  return all;
}

}  // namespace hone
