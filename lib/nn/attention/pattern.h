// Attention patterns: which keys each query sees, by the name that the configuration stores.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/attention.h"

namespace hone {

class AttentionPattern {
 public:
  virtual ~AttentionPattern() = default;
  // The visits of blocks for a call of this shape; kernels::attention_forward runs any plan.
  virtual std::shared_ptr<const kernels::BlockPlan> plan(const kernels::PlanShape& shape) const = 0;
  // The same as a rule on positions, for single queries against a cache.
  virtual kernels::MaskRule rule() const = 0;
};

// Throws Error(usage) listing the kinds for a name that is none of them.
std::shared_ptr<const AttentionPattern> attention_pattern(const std::string& name);
std::vector<std::string> attention_kinds();

}  // namespace hone
