// The divergence of predictions from those of a teacher (Hinton et al., arXiv 1503.02531): loss and gradient in one
// pass over rows of logits.
//
// With p the teacher's probabilities and q = softmax(logits / t), a row costs t^2 KL(p || q) nats. The factor keeps the
// gradient, t (q - p), of the size that it has at temperature 1.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/view.h"

namespace hone::kernels {

struct DivergenceRows {
  View logits;             // [rows, cols] T; replaced by gradient_scale * d(loss)/d(logits) where that is not 0
  ConstView teacher;       // [rows, cols] T: logits; of divergence() alone
  int64_t vocabulary = 0;  // columns that count; gradients of the others are 0
  float temperature = 1;   // above 0
  const int32_t* targets = nullptr;  // [rows]; a row whose target is below 0 is not scored: loss and gradient are 0
  float* losses = nullptr;           // [rows]
  float gradient_scale = 0;
};

// What a teacher said of its likeliest tokens: their probabilities at the temperature, and the sum of all others'.
struct TopPredictions {
  static constexpr int64_t most = 1024;
  int64_t count = 0;                     // tokens a row, up to `most`
  const int32_t* ids = nullptr;          // [rows, count], each below the vocabulary, none twice in a row
  const float* probabilities = nullptr;  // [rows, count + 1]: the rest comes last; each row sums to 1
};

void divergence(const DivergenceRows& a);

// The rest is one outcome: sum of p ln(p / q) over the likeliest, and r ln(r / q') with q' the model's probability of
// all others together. It says how much they should have, not which of them; the divergence over the whole vocabulary
// is never less.
void divergence_from_top(const DivergenceRows& a, const TopPredictions& top);

// ---- of a vocabulary that several ranks divide (rows/vocabulary_part.h): each has the columns of some tokens ----

// Of a row's columns, with x the logits and y the teacher's, and t the temperature.
struct DivergenceSum {
  float largest, teacher_largest;  // of x and of y; -infinity: of no token
  float sum, teacher_sum;          // of exp((x - largest) / t), and of exp((y - teacher_largest) / t)
  float weighted;                  // of exp((y - teacher_largest) / t) ((y - teacher_largest) - (x - largest)) / t
};

// sums [rows]: of the rank's own columns, of rows that are scored.
void divergence_sums(const DivergenceRows& a, DivergenceSum* sums);
// What divergence() does, with sums over the columns of all ranks.
void divergence_from_sums(const DivergenceRows& a, const DivergenceSum* sums);

}  // namespace hone::kernels
