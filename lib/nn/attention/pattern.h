// Attention patterns: which keys each query sees, by the name that the configuration stores.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "nn/attention/cache.h"
#include "nn/batch.h"

namespace hone {

// What a pattern may choose by. dims tells where the queries stand.
struct AttentionQueries {
  const kernels::AttentionDims& dims;
  kernels::ConstHeadRows q;
  kernels::KeySummaries summaries;          // where need().summary_block asks for them
  std::span<const RowRange> together = {};  // of the queries (Span::together)
};

// BlockPlan::seen_from of `keys` rows in order, where the queries are the last of them and some see each other whole.
std::vector<int32_t> seen_from(int64_t keys, int64_t queries, std::span<const RowRange> together);

class AttentionPattern {
 public:
  virtual ~AttentionPattern() = default;
  // What the positions of query and key alone decide.
  virtual kernels::MaskRule rule() const = 0;
  // What the cache has to hold.
  virtual CacheNeed need() const { return {rule().window, rule().sinks, 0}; }
  // Whether it can show rows to each other whole, whichever comes first (Span::together).
  virtual bool sees_together() const { return need().summary_block == 0; }
  // Keys that the query at `position` sees, itself among them.
  virtual int64_t visible_keys(int64_t position) const;
  // The visits of blocks for queries whose keys stand in order from position 0 on; kernels::attention_forward runs any
  // plan.
  virtual std::shared_ptr<const kernels::BlockPlan> plan(const AttentionQueries& call) const;
  // Where content decides: appends the visits of one query of one sequence, as DecodeDims wants them. Otherwise false.
  virtual bool visits(const AttentionQueries&, std::vector<int64_t>&, std::vector<kernels::DecodeVisit>&) const {
    return false;
  }
  // Throws Error(usage) where the pattern makes no sense for sequences of `context` tokens.
  virtual void check(int64_t context) const = 0;
};

// What a name says, for the files that make patterns (nn/attention/NAME.cpp).
struct AttentionNumbers {
  std::string name;  // as the user wrote it, for messages
  std::vector<int64_t> values;
  int64_t at(size_t i, int64_t otherwise) const { return i < values.size() ? values[i] : otherwise; }
};

// By a name such as "full", "window:512:4" or "routed:64:8". Throws Error(usage) that says which numbers a kind takes.
std::shared_ptr<const AttentionPattern> attention_pattern(const std::string& name);

// A family of nn/mixer.h.
std::vector<std::string> attention_kinds();
std::vector<std::string> attention_examples();
void check_attention(const std::string& name, int64_t context);

}  // namespace hone
