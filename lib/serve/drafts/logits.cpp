#include <algorithm>
#include <cmath>

#include "serve/drafts/kinds.h"

namespace hone {
namespace {

double highest_probability(std::span<const float> logits) {
  const float highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - highest));
  return 1 / sum;
}

}  // namespace

std::vector<Drafted> LogitsDraft::propose(std::span<const int32_t> sequence, int64_t most) {
  begin(sequence);
  std::vector<int32_t> text(sequence.begin(), sequence.end());
  std::vector<Drafted> drafted;
  while (static_cast<int64_t>(drafted.size()) < most) {
    const std::optional<Tensor> logits = logits_after(text);
    if (!logits || highest_probability(logits->span<float>()) < source_.settings.min_probability) break;
    const Distribution from = sampler_.distribution(logits->span<float>(), text, source_.banned);
    drafted.push_back({sampler_.draw(from), from});
    text.push_back(drafted.back().token);
  }
  return drafted;
}

}  // namespace hone
