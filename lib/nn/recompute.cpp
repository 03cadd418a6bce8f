#include "nn/recompute.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <string_view>

#include "base/error.h"

namespace hone {
namespace {

// One of the halves of each block, 0 or 1.
template <int64_t which>
std::vector<Stretch> one_half(int64_t from, int64_t to, int64_t) {
  std::vector<Stretch> all;
  for (int64_t half = 2 * from; half < 2 * to; ++half) all.push_back({half, half + 1, half % 2 == which});
  return all;
}

std::vector<Stretch> whole_blocks(int64_t from, int64_t to, int64_t at_once) {
  std::vector<Stretch> all;
  for (int64_t layer = from; layer < to; layer += at_once)
    all.push_back({2 * layer, 2 * std::min(layer + at_once, to), true});
  return all;
}

// A name without a number is that function with the number 1.
struct Row {
  std::string_view name;
  RecomputePlan::Cut cut;
  bool numbered = false;         // written "NAME:K"
  int64_t first_of_its_own = 1;  // the least K of which the plan is that of no other row
};

constexpr Row rows[] = {
    {"none", nullptr},        {"attention", one_half<0>},       {"feed_forward", one_half<1>},
    {"blocks", whole_blocks}, {"every", whole_blocks, true, 2},  // every:1 is blocks
};

std::string form_of(const Row& row) {
  return fmt::format("{}{}", row.name, row.numbered ? ":K" : "");
}

}  // namespace

std::vector<Stretch> RecomputePlan::stretches(int64_t from, int64_t to) const {
  if (cut) return cut(from, to, number);
  if (from >= to) return {};
  return {{2 * from, 2 * to, false}};
}

bool RecomputePlan::keeps_blocks_whole() const {
  return std::ranges::all_of(stretches(0, 2 * number),
                             [](const Stretch& stretch) { return stretch.from % 2 == 0 && stretch.to % 2 == 0; });
}

RecomputePlan recompute_plan(const std::string& text) {
  for (const Row& row : rows) {
    if (!row.numbered && text == row.name) return {row.cut};
    const std::string prefix = fmt::format("{}:", row.name);
    if (!row.numbered || !text.starts_with(prefix)) continue;
    int64_t number = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, failure] = std::from_chars(text.data() + prefix.size(), end, number);
    if (failure == std::errc::result_out_of_range && stop == end && text[prefix.size()] != '-')
      throw usage_error("'{}' is too large: at most {}:{}", text, row.name, std::numeric_limits<int64_t>::max());
    if (failure == std::errc() && stop == end && number >= 1) return {row.cut, number};
  }
  throw usage_error("what is computed again must be {}, not '{}'", recompute_names(), text);
}

std::string to_string(const RecomputePlan& plan) {
  for (const Row& row : rows) {
    if (row.cut != plan.cut || (!row.numbered && plan.number != 1)) continue;
    return row.numbered ? fmt::format("{}:{}", row.name, plan.number) : std::string(row.name);
  }
  throw internal_error("a plan of recomputation without a name");
}

std::string recompute_names() {
  std::string names;
  for (const Row& row : rows)
    names += fmt::format("{}{}", &row == rows ? "" : &row == std::end(rows) - 1 ? " or " : ", ", form_of(row));
  return names;
}

std::vector<RecomputePlan> recompute_plans(int64_t layers) {
  std::vector<RecomputePlan> all;
  for (const Row& row : rows)
    for (int64_t number = row.first_of_its_own; number <= (row.numbered ? layers : 1); ++number)
      all.push_back({row.cut, number});
  return all;
}

}  // namespace hone
