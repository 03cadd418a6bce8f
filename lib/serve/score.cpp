#include <algorithm>
#include <cmath>
#include <numeric>

#include "serve/engine.h"

namespace hone {

ScoredToken score(std::span<const float> logits, int32_t token, int64_t top) {
  const float highest = *std::ranges::max_element(logits);
  double total = 0;
  for (const float logit : logits) total += std::exp(static_cast<double>(logit) - static_cast<double>(highest));
  const double log_total = static_cast<double>(highest) + std::log(total);
  const auto logprob = [&](int32_t id) { return static_cast<double>(logits[static_cast<size_t>(id)]) - log_total; };
  ScoredToken result{token, logprob(token), {}};
  if (top < 1) return result;
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto end = ids.begin() + std::min<int64_t>(top, static_cast<int64_t>(ids.size()));
  std::partial_sort(ids.begin(), end, ids.end(), [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  });
  for (auto it = ids.begin(); it != end; ++it) result.top.emplace_back(*it, logprob(*it));
  return result;
}

}  // namespace hone
