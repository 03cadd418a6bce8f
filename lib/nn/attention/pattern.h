// Attention patterns: which keys each query sees, by the name that the configuration stores.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/attention/cache.h"

namespace hone {

// What a pattern may choose by. dims tells where the queries stand.
struct AttentionQueries {
  const kernels::AttentionDims& dims;
  kernels::ConstHeadRows q;
  kernels::KeySummaries summaries;  // where need().summary_block asks for them
};

class AttentionPattern {
 public:
  virtual ~AttentionPattern() = default;
  // What the positions of query and key alone decide.
  virtual kernels::MaskRule rule() const = 0;
  // What the cache has to hold.
  virtual CacheNeed need() const { return {rule().window, rule().sinks, 0}; }
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

// By a name such as "full", "window:512:4" or "routed:64:8". Throws Error(usage) that lists the kinds for one that does
// not exist, and says which numbers a kind takes.
std::shared_ptr<const AttentionPattern> attention_pattern(const std::string& name);

// Each kind as it is written, with its numbers: "window:SIZE[:SINKS]".
std::vector<std::string> attention_kinds();
// A name of each kind, with small numbers: for tests of every row of the table.
std::vector<std::string> attention_examples();

// "a,b" -> a, b, a, b, … for `layers` layers. Throws Error(usage) as attention_pattern, and for more kinds than layers.
std::vector<std::string> attention_by_layer(const std::string& kinds, size_t layers);
// The shortest list that attention_by_layer makes these of.
std::string attention_list(const std::vector<std::string>& by_layer);

}  // namespace hone
