#include "ops/cross_entropy.h"

#include "kernels/rows/elementwise.h"

namespace hone::ops {

TokenLosses cross_entropy_head(const Var& x, const std::shared_ptr<Weight>& head, int64_t vocabulary,
                               std::span<const int32_t> targets, float weight) {
  TokenLosses result;
  result.losses.resize(targets.size());
  result.correct.resize(targets.size());
  const auto of_rows = [&](kernels::View logits, int64_t begin, std::span<float> losses, float scale) {
    const auto first = static_cast<size_t>(begin), count = losses.size();
    kernels::cross_entropy(logits, vocabulary, targets.subspan(first, count), losses,
                           std::span(result.correct).subspan(first, count), scale);
  };
  result.term = head_loss("next_token", x, head, targets, weight, result.losses, of_rows);
  return result;
}

}  // namespace hone::ops
