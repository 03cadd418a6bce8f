#include "ops/cross_entropy.h"

#include <cmath>
#include <cstring>

#include "kernels/rows/elementwise.h"
#include "kernels/rows/vocabulary_part.h"

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

// What ranks that divide the vocabulary make of some rows together: kernels::cross_entropy(), whose arguments these
// are.
void cross_entropy_of_parts(const kernels::CrossEntropy& a, const Head& head) {
  const auto rows = static_cast<size_t>(a.logits.rows);
  std::vector<int32_t> own(rows, -1);  // targets as columns of this rank's logits
  for (size_t r = 0; r < rows; ++r)
    if (a.targets[r] >= head.first && a.targets[r] < head.first + head.vocabulary)
      own[r] = static_cast<int32_t>(a.targets[r] - head.first);
  std::vector<kernels::LogitSum> mine(rows);
  kernels::sum_logits(a.logits, head.vocabulary, own.data(), mine.data());
  const std::vector<std::string> all =
      head.ranks->gather({reinterpret_cast<const char*>(mine.data()), rows * sizeof(kernels::LogitSum)});
  const int64_t part = head.weight->rows();
  std::vector<float> log_sums(rows), factors(rows, 0.0f);
  std::vector<kernels::LogitSum> of_ranks(all.size());
  for (size_t r = 0; r < rows; ++r) {
    float largest = -INFINITY, sum = 0, target = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      std::memcpy(&of_ranks[i], all[i].data() + r * sizeof(kernels::LogitSum), sizeof(kernels::LogitSum));
      target += of_ranks[i].target;
      // Not std::max: what is no number stays none.
      if (!(of_ranks[i].largest <= largest)) largest = of_ranks[i].largest;
    }
    int64_t predicted = -1;
    for (size_t i = 0; i < all.size(); ++i) {
      if (of_ranks[i].sum != 0) sum += of_ranks[i].sum * std::exp(of_ranks[i].largest - largest);
      if (predicted < 0 && of_ranks[i].largest == largest)
        predicted = static_cast<int64_t>(i) * part + of_ranks[i].largest_at;
    }
    const bool scored = a.targets[r] >= 0;
    log_sums[r] = std::log(sum) + largest;
    if (a.log_sums) a.log_sums[r] = scored ? log_sums[r] : 0.0f;
    a.losses[r] = scored ? log_sums[r] - target : 0.0f;
    a.correct[r] = scored && predicted == a.targets[r];
    if (scored) factors[r] = a.gradient_scale * (1.0f + 2.0f * a.z_weight * log_sums[r]);
  }
  if (a.gradient_scale == 0.0f) return;
  kernels::logit_gradient({a.logits, head.vocabulary, own.data(), log_sums.data(), factors.data(), a.gradient_scale});
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
    if (head.ranks)
      cross_entropy_of_parts(rows, head);
    else
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
