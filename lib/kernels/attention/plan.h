// Block plans: which blocks of 64 keys each block of 64 queries visits. A pattern (causal, window, routed) yields a
// plan, the kernels of attention.h run any plan.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "kernels/attention/types.h"

namespace hone::kernels {

struct PlanShape {
  int64_t queries = 0, keys = 0, query_offset = 0;

  bool operator==(const PlanShape&) const = default;
};

// Visits sorted by block, in both orientations. List l of by_query, block i: by_query[query_starts[l * (query_blocks +
// 1) + i]] up to the next start; the same for keys. One list serves all sequences and heads, or there is one for each
// (sequence, head), in the order sequence * heads + head.
struct BlockPlan {
  PlanShape shape;
  MaskRule rule;
  // Of each key row, negative: an empty row, seen by no one; no entries: row j is at j.
  std::vector<int32_t> key_positions;
  // Of each key row, the position of the first query that sees it, at most the row's own: rows of an image may see each
  // other whichever comes first. No entries: the row's own. Only where the rule is causal.
  std::vector<int32_t> seen_from;
  int64_t lists = 1, query_blocks = 0, key_blocks = 0;
  std::vector<int64_t> query_starts, key_starts;
  std::vector<BlockVisit> by_query, by_key;
  int64_t visible_pairs = 0;  // query-key pairs of all lists that enter the softmax
  int64_t causal_pairs = 0;   // what they would be with full attention
  bool gathered = false;      // some visit is
};

// A key block chosen for a query block; bits as in BlockVisit::queries. Bits 0: visited for what the rule shows of it.
struct SelectedBlock {
  int32_t block;
  uint64_t queries;
};

// Appends to `selected` the blocks that block `query_block` of list `list` visits: any order, once each.
using SelectBlocks = std::function<void(int64_t list, int64_t query_block, std::vector<SelectedBlock>& selected)>;

// Fills `plan` from the choices of `select`: drops blocks of which nothing is visible, classifies the others, sorts,
// makes the lists by key block. plan.shape, rule, key_positions and lists are set by the caller; the memory of the
// vectors is reused. Lists are built side by side: `select` must stand calls for different lists at once. Throws
// Error(internal) for a shape or a choice out of range.
void build_plan(BlockPlan& plan, const SelectBlocks& select);

// Every block of which the rule shows anything. The last few plans are kept, so that layers and steps of one shape
// share one.
std::shared_ptr<const BlockPlan> causal_plan(const PlanShape& shape, const MaskRule& rule = {});

// The same where some keys are seen from earlier on (BlockPlan::seen_from); kept, too.
std::shared_ptr<const BlockPlan> together_plan(const PlanShape& shape, const MaskRule& rule,
                                               std::vector<int32_t> seen_from);

// The same for a cache whose rows are not in order (a ring): key_positions[j] is the position of row j, negative if
// empty. Not kept.
std::shared_ptr<const BlockPlan> causal_plan(const PlanShape& shape, const MaskRule& rule,
                                             std::vector<int32_t> key_positions, std::vector<int32_t> seen_from = {});

}  // namespace hone::kernels
