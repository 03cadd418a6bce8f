#include "nn/attention/score.h"

#include "base/error.h"
#include "base/kind_name.h"
#include "base/units.h"
#include "nn/blueprint.h"

namespace hone {
namespace {

using kernels::ScoreKind;

struct Row {
  const char* form;
  ScoreKind kind;
  float least, most;  // of its number
};

constexpr Row table[] = {
    {"softcap:CAP", ScoreKind::softcap, least_softcap, most_softcap},
};

std::string forms() {
  std::string all;
  for (const Row& row : table) all += fmt::format("{}{}", all.empty() ? "" : ", ", row.form);
  return all;
}

}  // namespace

kernels::ScoreRule score_rule(const std::string& name) {
  if (name.empty()) return {};
  for (const Row& row : table) {
    if (first_word(name) != first_word(row.form)) continue;
    const size_t colon = name.find(':');
    if (colon == std::string::npos) throw usage_error("score '{}': write {}", name, row.form);
    const auto number = static_cast<float>(parse_number(name.substr(colon + 1)));
    if (!(number >= row.least && number <= row.most))
      throw usage_error("score '{}': the number must be between {} and {}", name, row.least, row.most);
    return {row.kind, number};
  }
  throw usage_error("unknown kind of score '{}'; known: {}", name, forms());
}

std::string softcap_score(float cap) {
  return fmt::format("softcap:{}", cap);
}

}  // namespace hone
