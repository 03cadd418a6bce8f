// The divergence of a model's predictions, or of what it holds between its layers, from a teacher's.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "kernels/rows/divergence.h"
#include "ops/head_loss.h"

namespace hone::ops {

// What a teacher predicts for the rows of a batch.
class Predictions {
 public:
  virtual ~Predictions() = default;
  // Losses and gradients of rows [begin, begin + logits.rows) of the batch, whose `logits`, `targets`, `losses`,
  // vocabulary, temperature and scale are set: those of `student`, on every rank where several divide its vocabulary.
  virtual void compare(kernels::DivergenceRows rows, int64_t begin, const Head& student) const = 0;
};

// Those of a model: its hidden states [rows, dim], of the compute type, and its head, which must have as many rows as
// the student's, or the whole of them where ranks divide those. Its logits, too, exist for a chunk of rows at a time.
std::unique_ptr<Predictions> predictions_of(Tensor hidden, Head head);
// Those that were kept: ids i32 [rows, count] and probabilities f32 [rows, count + 1], see kernels::TopPredictions. Of
// whole rows: they are not compared with a vocabulary that ranks divide.
std::unique_ptr<Predictions> kept_predictions(Tensor ids, Tensor probabilities);

// The term `name`: temperature^2 KL(teacher || model), nats a scored row, as head_loss() makes it.
LossTerm divergence_head(const std::string& name, const Var& x, const Head& head, const Predictions& teacher,
                         float temperature, std::span<const int32_t> targets, float weight);

// The term `name`: the mean over rows of |s - t|^2 / |t|^2, with s = residual + branch (f32 + T; the branch may be
// none) and t the row of `teacher`, [rows, dim]. The gradient for a weight of 1 is computed here and kept in T: neither
// stream nor branch is read later.
LossTerm match_rows(const std::string& name, const Var& residual, const Var& branch, const Tensor& teacher,
                    float weight);

}  // namespace hone::ops
