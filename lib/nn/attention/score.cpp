#include "nn/attention/score.h"

#include "base/error.h"
#include "base/rows.h"
#include "base/units.h"

namespace hone {

kernels::ScoreRule score_rule(const std::string& name) {
  if (name.empty()) return {};
  const auto kind = find_form<kernels::ScoreKind>(kernels::score_kinds, name, 1);
  if (!kind) throw unknown_name("kind of score", name, forms_of_rows(kernels::score_kinds));
  const kernels::ScoreKindInfo& row = info_of(*kind);
  const size_t colon = name.find(':');
  if ((colon != std::string::npos) != row.has_number()) throw usage_error("score '{}': write {}", name, row.form);
  kernels::ScoreRule rule{*kind};
  if (!row.has_number()) return rule;
  rule.number = static_cast<float>(parse_number(name.substr(colon + 1)));
  if (!(rule.number >= row.least && rule.number <= row.most))
    throw usage_error("score '{}': the number must be between {} and {}", name, row.least, row.most);
  return rule;
}

bool score_by_head(const std::string& name) {
  const kernels::ScoreRule rule = score_rule(name);
  return rule.kind != kernels::ScoreKind::plain && info_of(rule.kind).by_head;
}

std::string softcap_score(float cap) {
  return fmt::format("softcap:{}", cap);
}

}  // namespace hone
