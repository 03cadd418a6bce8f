#include "nn/attention/score.h"

#include "base/error.h"
#include "base/kind_name.h"
#include "base/units.h"

namespace hone {
namespace {

std::vector<std::string> forms() {
  std::vector<std::string> all;
  for (const kernels::ScoreKindInfo& row : kernels::score_kinds) all.emplace_back(row.form);
  return all;
}

}  // namespace

kernels::ScoreRule score_rule(const std::string& name) {
  if (name.empty()) return {};
  for (const kernels::ScoreKindInfo& row : kernels::score_kinds) {
    if (first_word(name) != row.name()) continue;
    const size_t colon = name.find(':');
    if ((colon != std::string::npos) != row.has_number()) throw usage_error("score '{}': write {}", name, row.form);
    kernels::ScoreRule rule{static_cast<kernels::ScoreKind>(1 + (&row - kernels::score_kinds))};
    if (!row.has_number()) return rule;
    rule.number = static_cast<float>(parse_number(name.substr(colon + 1)));
    if (!(rule.number >= row.least && rule.number <= row.most))
      throw usage_error("score '{}': the number must be between {} and {}", name, row.least, row.most);
    return rule;
  }
  throw unknown_name("kind of score", name, forms());
}

bool score_by_head(const std::string& name) {
  const kernels::ScoreRule rule = score_rule(name);
  return rule.kind != kernels::ScoreKind::plain && info_of(rule.kind).by_head;
}

std::string softcap_score(float cap) {
  return fmt::format("softcap:{}", cap);
}

}  // namespace hone
