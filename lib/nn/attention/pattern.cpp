#include "nn/attention/pattern.h"

#include <fmt/ranges.h>

#include "base/error.h"

namespace hone {
namespace {

// Every key up to the query's own position.
class Full : public AttentionPattern {
 public:
  std::shared_ptr<const kernels::BlockPlan> plan(const kernels::PlanShape& shape) const override {
    return kernels::causal_plan(shape);
  }
  kernels::MaskRule rule() const override { return {}; }
};

struct Row {
  const char* name;
  std::shared_ptr<const AttentionPattern> (*make)(const std::string& name);
};

constexpr Row table[] = {
    {"full", [](const std::string&) -> std::shared_ptr<const AttentionPattern> { return std::make_shared<Full>(); }},
};

}  // namespace

std::shared_ptr<const AttentionPattern> attention_pattern(const std::string& name) {
  const std::string kind = name.substr(0, name.find(':'));
  for (const Row& row : table)
    if (kind == row.name) return row.make(name);
  throw usage_error("unknown kind of attention '{}'; known: {}", name, fmt::join(attention_kinds(), ", "));
}

std::vector<std::string> attention_kinds() {
  std::vector<std::string> names;
  for (const Row& row : table) names.emplace_back(row.name);
  return names;
}

}  // namespace hone
