#include "ops/cross_entropy.h"

#include "kernels/rows/elementwise.h"

namespace hone::ops {

namespace {

void scale_rows(const kernels::View& x, std::span<const float> factors) {
  for (int64_t r = 0; r < x.rows; ++r) {
    const float factor = factors[static_cast<size_t>(r)];
    if (factor == 1) continue;
    kernels::with_float_type(x.dtype, [&]<class T>(T*) {
      T* row = x.row<T>(r);
      for (int64_t c = 0; c < x.cols; ++c) {
        if constexpr (std::is_same_v<T, float>)
          row[c] *= factor;
        else
          row[c] = to_bf16(to_float(row[c]) * factor);
      }
    });
  }
}

}  // namespace

TokenLosses cross_entropy_head(const Var& x, const std::shared_ptr<Weight>& head, int64_t vocabulary,
                               std::span<const int32_t> targets, float weight, std::span<const float> weights) {
  TokenLosses result;
  result.losses.resize(targets.size());
  result.correct.resize(targets.size());
  const auto of_rows = [&](kernels::View logits, int64_t begin, std::span<float> losses, float scale) {
    const auto first = static_cast<size_t>(begin), count = losses.size();
    kernels::cross_entropy(logits, vocabulary, targets.subspan(first, count), losses,
                           std::span(result.correct).subspan(first, count), scale);
    if (scale != 0 && !weights.empty()) scale_rows(logits, weights.subspan(first, count));
  };
  result.term = head_loss("next_token", x, head, targets, weight, result.losses, of_rows, weights);
  return result;
}

}  // namespace hone::ops
