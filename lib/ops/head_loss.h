// The head and a loss of its logits in one: logits exist only for some rows at a time, in the compute type.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "autograd/autograd.h"
#include "ops/head.h"

namespace hone::ops {

// Rows whose logits exist at once; `vocabulary`: rows of the head, padding included.
int64_t head_chunk_rows(int64_t rows, int64_t vocabulary);
// Arrays of so many rows of logits: a soft cap's slope is read from a copy of what it gave.
constexpr int64_t head_chunk_arrays(float softcap) {
  return softcap > 0 ? 2 : 1;
}

// Of the rows from `begin` on: writes their losses, 0 where a row is not scored, and, where `gradient_scale` is not 0,
// replaces the logits by it times their gradient.
using RowLosses =
    std::function<void(kernels::View logits, int64_t begin, std::span<float> losses, float gradient_scale)>;

// x [rows, dim]. The term is the mean over the scored rows, weighted where there are `weights` of rows (which of_rows
// then applies to gradients); rows of losses are written to `losses`, [rows].
//
// While a tape records, the gradients of x and of the head are computed here, chunk by chunk, so that logits need not
// be kept or computed again. That takes the weight that the term has in what is minimized: it comes back in the term,
// which is handed to Tape::backward() as it is.
LossTerm head_loss(const std::string& name, const Var& x, const Head& head, std::span<const int32_t> targets,
                   float weight, std::span<float> losses, const RowLosses& of_rows,
                   std::span<const float> weights = {});

}  // namespace hone::ops
