#include "ops/divergence.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"

namespace hone::ops {
namespace {

class OfModel : public Predictions {
 public:
  OfModel(Tensor hidden, Head head) : hidden_(std::move(hidden)), head_(std::move(head)) {}

  void compare(kernels::DivergenceRows rows, int64_t begin) const override {
    const Tensor logits = Tensor::empty({rows.logits.rows, head_.weight->rows()}, rows.logits.dtype);
    head_.logits(hidden_.rows(begin, rows.logits.rows).view(), logits.view());
    rows.teacher = logits.view();
    kernels::divergence(rows);
  }

 private:
  Tensor hidden_;
  Head head_;
};

class Kept : public Predictions {
 public:
  Kept(Tensor ids, Tensor probabilities) : ids_(std::move(ids)), probabilities_(std::move(probabilities)) {}

  void compare(kernels::DivergenceRows rows, int64_t begin) const override {
    const int64_t count = ids_.dim(1);
    kernels::divergence_from_top(
        rows, {count, ids_.data<int32_t>() + begin * count, probabilities_.data<float>() + begin * (count + 1)});
  }

 private:
  Tensor ids_, probabilities_;
};

// A divergence is of whole rows of logits.
void require_whole(const Head& head) {
  if (head.ranks) throw usage_error("a model in parts on several ranks is not compared with another");
}

}  // namespace

std::unique_ptr<Predictions> predictions_of(Tensor hidden, Head head) {
  require_whole(head);
  return std::make_unique<OfModel>(std::move(hidden), std::move(head));
}

std::unique_ptr<Predictions> kept_predictions(Tensor ids, Tensor probabilities) {
  return std::make_unique<Kept>(std::move(ids), std::move(probabilities));
}

LossTerm divergence_head(const std::string& name, const Var& x, const Head& head, const Predictions& teacher,
                         float temperature, std::span<const int32_t> targets, float weight) {
  require_whole(head);
  std::vector<float> losses(targets.size());
  const auto of_rows = [&](kernels::View logits, int64_t begin, std::span<float> of_chunk, float scale) {
    kernels::DivergenceRows rows;
    rows.logits = logits;
    rows.vocabulary = head.vocabulary;
    rows.temperature = temperature;
    rows.targets = targets.data() + begin;
    rows.losses = of_chunk.data();
    rows.gradient_scale = scale;
    teacher.compare(rows, begin);
  };
  return head_loss(name, x, head, targets, weight, losses, of_rows);
}

LossTerm match_rows(const std::string& name, const Var& residual, const Var& branch, const Tensor& teacher,
                    float weight) {
  const kernels::View stream = residual.value().view();
  const int64_t rows = stream.rows, dim = stream.cols;
  const bool recording = Tape::recording();
  const DType type = branch ? branch.value().dtype() : DType::f32;
  const Tensor added = branch ? branch.value().to(DType::f32) : Tensor(), wanted = teacher.to(DType::f32);
  const Tensor slope = recording ? Tensor::empty({rows, dim}) : Tensor();
  std::vector<double> losses(static_cast<size_t>(rows));
  kernels::parallel_for(rows, kernels::row_grain(4 * dim), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float *s = stream.row<float>(r), *b = added ? added.data<float>() + r * dim : nullptr,
                  *t = wanted.data<float>() + r * dim;
      double error = 0, norm = 1e-30;
      for (int64_t c = 0; c < dim; ++c) {
        const auto d = static_cast<double>(s[c] + (b ? b[c] : 0.0f) - t[c]), x = static_cast<double>(t[c]);
        error += d * d;
        norm += x * x;
      }
      losses[static_cast<size_t>(r)] = error / norm;
      if (!recording) continue;
      const auto factor = static_cast<float>(2.0 / (norm * static_cast<double>(rows)));
      float* d = slope.data<float>() + r * dim;
      for (int64_t c = 0; c < dim; ++c) d[c] = factor * (s[c] + (b ? b[c] : 0.0f) - t[c]);
    }
  });
  double sum = 0;
  for (const double loss : losses) sum += loss;
  const Var mean(Tensor::of({1}, {static_cast<float>(sum / static_cast<double>(rows))}), recording);
  if (recording)
    Tape::record([residual, branch, kept = slope.to(type), mean] {
      const Tensor gradient = kept.dtype() == DType::f32 ? kept.clone() : kept.to(DType::f32);
      kernels::scale(gradient.view(), mean.take_grad().data<float>()[0]);
      if (branch && branch.wants_grad())
        branch.add_grad(kept.dtype() == DType::f32 ? gradient.clone() : gradient.to(kept.dtype()));
      residual.add_grad(gradient);
    });
  return {name, mean, weight};
}

}  // namespace hone::ops
