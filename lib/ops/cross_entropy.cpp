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

// Over the scored rows.
float mean_square(std::span<const float> x, std::span<const int32_t> targets, std::span<const float> weights) {
  double sum = 0, scored = 0;
  for (size_t r = 0; r < x.size(); ++r) {
    const double weight = targets[r] < 0 ? 0 : weights.empty() ? 1 : static_cast<double>(weights[r]);
    sum += weight * static_cast<double>(x[r]) * static_cast<double>(x[r]);
    scored += weight;
  }
  return scored > 0 ? static_cast<float>(sum / scored) : 0;
}

}  // namespace

TokenLosses cross_entropy_head(const Var& x, const Head& head, std::span<const int32_t> targets,
                               const TokenLossWeights& weights) {
  TokenLosses result;
  result.losses.resize(targets.size());
  result.correct.resize(targets.size());
  const bool squares = weights.z > 0;
  std::vector<float> log_sums(squares ? targets.size() : 0);
  const auto of_rows = [&](kernels::View logits, int64_t begin, std::span<float> losses, float scale) {
    const auto first = static_cast<size_t>(begin);
    kernels::CrossEntropy rows;
    rows.logits = logits;
    rows.vocabulary = head.vocabulary;
    rows.targets = targets.data() + first;
    rows.losses = losses.data();
    rows.correct = result.correct.data() + first;
    rows.log_sums = squares ? log_sums.data() + first : nullptr;
    rows.gradient_scale = scale;
    rows.z_weight = squares ? weights.z : 0;
    kernels::cross_entropy(rows);
    if (scale != 0 && !weights.rows.empty()) scale_rows(logits, weights.rows.subspan(first, losses.size()));
  };
  result.term = head_loss("next_token", x, head, targets, weights.next_token, result.losses, of_rows, weights.rows);
  if (squares)
    result.z_term = {"z", Var(Tensor::of({1}, {mean_square(log_sums, targets, weights.rows)})),
                     weights.z * weights.next_token};
  return result;
}

}  // namespace hone::ops
