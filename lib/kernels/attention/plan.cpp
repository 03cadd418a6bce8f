#include "kernels/attention/plan.h"

#include <algorithm>
#include <bit>
#include <deque>
#include <exception>
#include <mutex>

#include "base/error.h"
#include "kernels/parallel.h"

namespace hone::kernels {
namespace {

constexpr int64_t block = attention_block;

int64_t blocks_of(int64_t tokens) {
  return (tokens + block - 1) / block;
}

void check_shape(const BlockPlan& plan) {
  const auto& s = plan.shape;
  if (s.queries < 0 || s.keys < 0 || s.query_offset < 0 || s.query_offset + s.queries >= INT32_MAX ||
      s.keys >= INT32_MAX || plan.lists < 1 || plan.rule.window < 0 || plan.rule.sinks < 0)
    throw internal_error("attention plan: {} queries at {}, {} keys, window {}, sinks {}, {} lists", s.queries,
                         s.query_offset, s.keys, plan.rule.window, plan.rule.sinks, plan.lists);
  if (plan.key_positions.empty() ? s.keys < s.query_offset + s.queries
                                 : static_cast<int64_t>(plan.key_positions.size()) != s.keys)
    throw internal_error("attention plan: {} keys for {} queries at {}, {} key positions", s.keys, s.queries,
                         s.query_offset, plan.key_positions.size());
  if (!plan.seen_from.empty() && (static_cast<int64_t>(plan.seen_from.size()) != s.keys || !plan.rule.causal))
    throw internal_error("attention plan: {} keys seen from {} places", s.keys, plan.seen_from.size());
}

// Positions that a key block holds.
struct KeyRange {
  int64_t lowest = INT32_MAX, highest = -1;            // of the rows in use
  bool complete = false;                               // `block` rows, all in use
  int64_t seen_lowest = INT32_MAX, seen_highest = -1;  // positions that they are seen from
};

int64_t position_of(const BlockPlan& plan, int64_t row) {
  return plan.key_positions.empty() ? row : plan.key_positions[static_cast<size_t>(row)];
}

// The first query that sees a row which stands at `position`.
int64_t seen_from(const BlockPlan& plan, int64_t row, int64_t position) {
  return plan.seen_from.empty() ? position : plan.seen_from[static_cast<size_t>(row)];
}

KeyRange range_of(const BlockPlan& plan, int64_t key_block) {
  const int64_t begin = key_block * block, end = std::min(begin + block, plan.shape.keys);
  if (plan.key_positions.empty() && plan.seen_from.empty())
    return {begin, end - 1, end - begin == block, begin, end - 1};
  KeyRange range;
  range.complete = end - begin == block;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t position = position_of(plan, row);
    if (position < 0) {
      range.complete = false;
      continue;
    }
    range.lowest = std::min(range.lowest, position);
    range.highest = std::max(range.highest, position);
    range.seen_lowest = std::min(range.seen_lowest, seen_from(plan, row, position));
    range.seen_highest = std::max(range.seen_highest, seen_from(plan, row, position));
  }
  return range;
}

// The queries of one block: positions first … last, and the bits that stand for them.
struct QueryRange {
  int64_t first, last;
  uint64_t bits;
};

QueryRange queries_of(const BlockPlan& plan, int64_t query_block) {
  const int64_t begin = query_block * block, count = std::min(block, plan.shape.queries - begin);
  const int64_t first = plan.shape.query_offset + begin;
  return {first, first + count - 1, ~uint64_t{0} >> (block - count)};
}

bool invisible(const MaskRule& rule, const QueryRange& q, const KeyRange& k, uint64_t selected) {
  if (k.highest < 0 || (rule.causal && k.seen_lowest > q.last)) return true;
  const bool ahead = k.seen_lowest >= k.lowest && k.lowest - q.last >= rule.window;
  const bool far = q.first - k.highest >= rule.window || ahead;
  return selected == 0 && far && k.lowest >= rule.sinks;
}

bool whole(const MaskRule& rule, const QueryRange& q, const KeyRange& k, uint64_t selected) {
  if (!k.complete || (rule.causal && k.seen_highest > q.first)) return false;
  const bool near = q.last - k.lowest < rule.window && k.highest - q.first < rule.window;
  return selected == q.bits || near || k.highest < rule.sinks;
}

// Visible pairs of a partial visit, key by key: a query sees key position p when it stands where that is seen from, or
// later (or the rule is not causal), and is selected, or is less than the window away, or p is a sink.
int64_t count_visible(const BlockPlan& plan, const QueryRange& q, const BlockVisit& visit) {
  const int64_t begin = visit.block * block, end = std::min(begin + block, plan.shape.keys);
  int64_t count = 0;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t position = position_of(plan, row);
    const int64_t seen = seen_from(plan, row, position);
    if (position < 0 || (plan.rule.causal && seen > q.last)) continue;
    const bool sink = position < plan.rule.sinks;
    // Queries from `from` on stand late enough, those from `near_begin` to `near_end` - 1 close enough.
    const int64_t from = plan.rule.causal ? std::max(seen - q.first, int64_t{0}) : 0;
    const int64_t near_begin =
        sink || seen < position ? 0 : std::clamp(position - plan.rule.window + 1 - q.first, int64_t{0}, block);
    const int64_t near_end = sink ? block : std::min(block, position + plan.rule.window - q.first);
    const uint64_t past = ~uint64_t{0} << from;
    const uint64_t close =
        near_end <= near_begin ? 0 : (~uint64_t{0} >> (block - near_end)) & (~uint64_t{0} << near_begin);
    count += std::popcount(q.bits & past & (visit.queries | close));
  }
  return count;
}

int64_t causal_pairs(const BlockPlan& plan) {
  const auto& s = plan.shape;
  if (plan.key_positions.empty()) return s.queries * s.query_offset + s.queries * (s.queries + 1) / 2;
  int64_t pairs = 0;
  for (int64_t position : plan.key_positions)
    if (position >= 0) pairs += std::clamp(s.query_offset + s.queries - position, int64_t{0}, s.queries);
  return pairs;
}

// Visits of up to this many of the 64 queries are gathered; more fill a tile well enough where they stand.
constexpr int most_gathered = 48;

// The visit of a key block by a block of queries, of which `selected` chose it.
BlockVisit visit_of(const MaskRule& rule, const QueryRange& queries, const KeyRange& keys, int32_t key_block,
                    uint64_t selected) {
  const bool all = whole(rule, queries, keys, selected);
  const bool gathered = !all && selected != 0 && std::popcount(selected) <= most_gathered && keys.complete &&
                        keys.highest < queries.first && invisible(rule, queries, keys, 0);
  return {key_block, !all, gathered, selected};
}

// One list by query block, with starts that count from 0.
struct ListVisits {
  std::vector<int64_t> starts;
  std::vector<BlockVisit> visits;
  int64_t visible_pairs = 0;
  bool gathered = false;
};

ListVisits list_by_query(const BlockPlan& plan, const std::vector<KeyRange>& ranges, int64_t list,
                         const SelectBlocks& select) {
  ListVisits result;
  std::vector<SelectedBlock> selected;
  result.starts.push_back(0);
  for (int64_t i = 0; i < plan.query_blocks; ++i) {
    selected.clear();
    select(list, i, selected);
    const auto earlier = [](const SelectedBlock& a, const SelectedBlock& b) { return a.block < b.block; };
    // They mostly come in order, and are hundreds for each block of queries where content decides.
    if (!std::is_sorted(selected.begin(), selected.end(), earlier))
      std::sort(selected.begin(), selected.end(), earlier);
    const QueryRange queries = queries_of(plan, i);
    int32_t previous = -1;
    for (const auto& choice : selected) {
      if (choice.block <= previous || choice.block >= plan.key_blocks)
        throw internal_error("attention plan: key block {} chosen twice or not one of {}", choice.block,
                             plan.key_blocks);
      previous = choice.block;
      const KeyRange& keys = ranges[static_cast<size_t>(choice.block)];
      const uint64_t bits = choice.queries & queries.bits;
      if (invisible(plan.rule, queries, keys, bits)) continue;
      const BlockVisit visit = visit_of(plan.rule, queries, keys, choice.block, bits);
      result.visible_pairs += !visit.partial   ? block * (queries.last - queries.first + 1)
                              : visit.gathered ? block * std::popcount(bits)
                                               : count_visible(plan, queries, visit);
      result.gathered = result.gathered || visit.gathered;
      result.visits.push_back(visit);
    }
    result.starts.push_back(static_cast<int64_t>(result.visits.size()));
  }
  return result;
}

// Copies a list to where it stands in the plan, behind `base` visits of the lists before it, in both orientations.
void place(BlockPlan& plan, int64_t list, const ListVisits& from, int64_t base) {
  int64_t* starts = plan.query_starts.data() + list * (plan.query_blocks + 1);
  int64_t* key_starts = plan.key_starts.data() + list * (plan.key_blocks + 1);
  for (int64_t i = 0; i <= plan.query_blocks; ++i) starts[i] = base + from.starts[static_cast<size_t>(i)];
  std::copy(from.visits.begin(), from.visits.end(), plan.by_query.begin() + base);
  std::fill(key_starts, key_starts + plan.key_blocks + 1, 0);
  for (const BlockVisit& visit : from.visits) ++key_starts[visit.block + 1];
  key_starts[0] = base;
  for (int64_t j = 0; j < plan.key_blocks; ++j) key_starts[j + 1] += key_starts[j];
  std::vector<int64_t> next(key_starts, key_starts + plan.key_blocks);
  for (int64_t i = 0; i < plan.query_blocks; ++i)
    for (int64_t v = starts[i]; v < starts[i + 1]; ++v) {
      BlockVisit visit = plan.by_query[static_cast<size_t>(v)];
      const int64_t at = next[static_cast<size_t>(visit.block)]++;
      visit.block = static_cast<int32_t>(i);
      plan.by_key[static_cast<size_t>(at)] = visit;
    }
}

// Calls f(list) for each list, on all threads where there are several; throws what one of them threw.
template <class F>
void for_each_list(int64_t lists, F&& f) {
  if (lists == 1) return f(0);
  std::mutex mutex;
  std::exception_ptr thrown;
  parallel_each(lists, [&](int64_t list) {
    try {
      f(list);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!thrown) thrown = std::current_exception();
    }
  });
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace

void build_plan(BlockPlan& plan, const SelectBlocks& select) {
  check_shape(plan);
  plan.query_blocks = blocks_of(plan.shape.queries);
  plan.key_blocks = blocks_of(plan.shape.keys);
  plan.visible_pairs = 0;
  plan.causal_pairs = plan.lists * causal_pairs(plan);
  plan.gathered = false;
  std::vector<KeyRange> ranges;
  for (int64_t j = 0; j < plan.key_blocks; ++j) ranges.push_back(range_of(plan, j));
  std::vector<ListVisits> lists(static_cast<size_t>(plan.lists));
  for_each_list(plan.lists,
                [&](int64_t list) { lists[static_cast<size_t>(list)] = list_by_query(plan, ranges, list, select); });
  std::vector<int64_t> bases = {0};
  for (const ListVisits& list : lists) {
    bases.push_back(bases.back() + static_cast<int64_t>(list.visits.size()));
    plan.visible_pairs += list.visible_pairs;
    plan.gathered = plan.gathered || list.gathered;
  }
  plan.by_query.resize(static_cast<size_t>(bases.back()));
  plan.by_key.resize(static_cast<size_t>(bases.back()));
  plan.query_starts.resize(static_cast<size_t>(plan.lists * (plan.query_blocks + 1)));
  plan.key_starts.resize(static_cast<size_t>(plan.lists * (plan.key_blocks + 1)));
  for_each_list(plan.lists, [&](int64_t list) {
    place(plan, list, lists[static_cast<size_t>(list)], bases[static_cast<size_t>(list)]);
  });
}

std::shared_ptr<const BlockPlan> causal_plan(const PlanShape& shape, const MaskRule& rule,
                                             std::vector<int32_t> key_positions, std::vector<int32_t> seen_from) {
  auto plan = std::make_shared<BlockPlan>();
  plan->shape = shape;
  plan->rule = rule;
  plan->key_positions = std::move(key_positions);
  plan->seen_from = std::move(seen_from);
  build_plan(*plan, [&](int64_t, int64_t query_block, std::vector<SelectedBlock>& selected) {
    int64_t end = blocks_of(shape.keys), from = 0;
    const QueryRange queries = queries_of(*plan, query_block);
    if (plan->key_positions.empty()) {  // rows in order: the sinks' blocks, then those from the window's first key on
      if (plan->seen_from.empty())
        end = std::min(end, (queries.last + (rule.causal ? 0 : rule.window - 1)) / block + 1);
      from = std::max(int64_t{0}, queries.first - rule.window + 1) / block;
    }
    const int64_t sinks_end = std::min(blocks_of(rule.sinks), from);
    for (int64_t j = 0; j < sinks_end; ++j) selected.push_back({static_cast<int32_t>(j), 0});
    for (int64_t j = from; j < end; ++j) selected.push_back({static_cast<int32_t>(j), 0});
  });
  return plan;
}

std::shared_ptr<const BlockPlan> causal_plan(const PlanShape& shape, const MaskRule& rule) {
  return together_plan(shape, rule, {});
}

std::shared_ptr<const BlockPlan> together_plan(const PlanShape& shape, const MaskRule& rule,
                                               std::vector<int32_t> seen_from) {
  constexpr size_t kept = 16;
  static std::mutex mutex;
  static std::deque<std::shared_ptr<const BlockPlan>> plans;  // the latest used first
  const std::lock_guard lock(mutex);
  const auto found = std::find_if(plans.begin(), plans.end(), [&](const auto& plan) {
    return plan->shape == shape && plan->rule == rule && plan->seen_from == seen_from;
  });
  std::shared_ptr<const BlockPlan> plan;
  if (found != plans.end()) {
    plan = *found;
    plans.erase(found);
  } else {
    plan = causal_plan(shape, rule, {}, std::move(seen_from));
    if (plans.size() == kept) plans.pop_back();
  }
  plans.push_front(plan);
  return plan;
}

}  // namespace hone::kernels
