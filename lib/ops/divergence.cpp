#include "ops/divergence.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"

namespace hone::ops {
namespace {

// Of the columns of all ranks.
kernels::DivergenceSum merged(std::span<const kernels::DivergenceSum> of_ranks, float temperature) {
  kernels::DivergenceSum all = {-INFINITY, -INFINITY, 0, 0, 0};
  for (const kernels::DivergenceSum& one : of_ranks) {
    // Not std::max: what is no number stays none.
    if (!(one.largest <= all.largest)) all.largest = one.largest;
    if (!(one.teacher_largest <= all.teacher_largest)) all.teacher_largest = one.teacher_largest;
  }
  for (const kernels::DivergenceSum& one : of_ranks) {
    if (one.sum == 0) continue;  // of no token
    const float by = (one.largest - all.largest) / temperature,
                teacher_by = (one.teacher_largest - all.teacher_largest) / temperature, part = std::exp(teacher_by);
    all.sum += one.sum * std::exp(by);
    all.teacher_sum += one.teacher_sum * part;
    all.weighted += part * (one.weighted + one.teacher_sum * (teacher_by - by));
  }
  return all;
}

// kernels::divergence() by ranks that divide the vocabulary.
void divergence_of_parts(const kernels::DivergenceRows& a, Communicator& ranks) {
  const auto rows = static_cast<size_t>(a.logits.rows);
  std::vector<kernels::DivergenceSum> sums(rows);
  kernels::divergence_sums(a, sums.data());
  const std::vector<std::string> all =
      ranks.gather({reinterpret_cast<const char*>(sums.data()), rows * sizeof(kernels::DivergenceSum)});
  std::vector<kernels::DivergenceSum> of_ranks(all.size());
  for (size_t r = 0; r < rows; ++r) {
    if (a.targets[r] < 0) continue;
    for (size_t i = 0; i < all.size(); ++i)
      std::memcpy(&of_ranks[i], all[i].data() + r * sizeof(kernels::DivergenceSum), sizeof(kernels::DivergenceSum));
    sums[r] = merged(of_ranks, a.temperature);
  }
  kernels::divergence_from_sums(a, sums.data());
}

class OfModel : public Predictions {
 public:
  OfModel(Tensor hidden, Head head) : hidden_(std::move(hidden)), head_(std::move(head)) {}

  void compare(kernels::DivergenceRows rows, int64_t begin, const Head& student) const override {
    if (head_.ranks && (!student.ranks || head_.weight->rows() != rows.logits.cols))
      throw internal_error("a teacher in parts that are not the student's");
    const Tensor logits = Tensor::empty({rows.logits.rows, head_.weight->rows()}, rows.logits.dtype);
    head_.logits(hidden_.rows(begin, rows.logits.rows).view(), logits.view());
    // A teacher that each rank has whole is read where the student's part is.
    const int64_t first = head_.ranks ? 0 : std::min(student.first, logits.dim(1));
    rows.teacher = kernels::columns_of(logits.view(), first, std::min(rows.logits.cols, logits.dim(1) - first));
    if (student.ranks)
      divergence_of_parts(rows, *student.ranks);
    else
      kernels::divergence(rows);
  }

 private:
  Tensor hidden_;
  Head head_;
};

class Kept : public Predictions {
 public:
  Kept(Tensor ids, Tensor probabilities) : ids_(std::move(ids)), probabilities_(std::move(probabilities)) {}

  void compare(kernels::DivergenceRows rows, int64_t begin, const Head& student) const override {
    if (student.ranks) throw usage_error("predictions that were kept are not compared with a model in parts on ranks");
    const int64_t count = ids_.dim(1);
    kernels::divergence_from_top(
        rows, {count, ids_.data<int32_t>() + begin * count, probabilities_.data<float>() + begin * (count + 1)});
  }

 private:
  Tensor ids_, probabilities_;
};

}  // namespace

std::unique_ptr<Predictions> predictions_of(Tensor hidden, Head head) {
  return std::make_unique<OfModel>(std::move(hidden), std::move(head));
}

std::unique_ptr<Predictions> kept_predictions(Tensor ids, Tensor probabilities) {
  return std::make_unique<Kept>(std::move(ids), std::move(probabilities));
}

LossTerm divergence_head(const std::string& name, const Var& x, const Head& head, const Predictions& teacher,
                         float temperature, std::span<const int32_t> targets, float weight) {
  std::vector<float> losses(targets.size());
  const auto of_rows = [&](kernels::View logits, int64_t begin, std::span<float> of_chunk, float scale) {
    kernels::DivergenceRows rows;
    rows.logits = logits;
    rows.vocabulary = head.vocabulary;
    rows.temperature = temperature;
    rows.targets = targets.data() + begin;
    rows.losses = of_chunk.data();
    rows.gradient_scale = scale;
    teacher.compare(rows, begin, head);
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
