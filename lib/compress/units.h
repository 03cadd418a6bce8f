// Removing units of neighbouring columns from a matrix (hidden units of a feed-forward, heads) so that its output
// changes least: the optimal brain surgeon (Hassibi & Stork 1992) for whole units, as in ZipLM (Kurtic et al.,
// arXiv 2302.04089, equations 3 and 4).
#pragma once

#include <string>
#include <vector>

#include "compress/statistics.h"
#include "tensor/bitmask.h"

namespace hone {

// What the squared error of a layer's output knows of its inputs.
struct InputMoments {
  int64_t cols = 0;
  std::vector<double> gram;   // [cols, cols]: mean of x x^T, centred where `centred`, with a hundredth of its mean
                              // diagonal added to the diagonal
  std::vector<double> means;  // [cols]: of x; 0 unless centred
  double damping = 0;         // what was added to the diagonal
};
// `inputs` with gram (and sums, where centred); null: as if inputs were independent and alike. Centred: for a layer
// with a bias, which takes up the means. Throws Error(input), naming `where`, for what is not finite.
InputMoments moments_of(const InputStatistics* inputs, int64_t cols, bool centred, const std::string& where);
// What units need to be measured of a layer's inputs.
std::vector<StatisticKind> moment_needs(bool centred);

struct UnitChoice {
  std::vector<int64_t> kept;  // units, ascending
  double error = 0;           // squared error of the output over its square, where the rest makes up for what goes
};

// Removes `count` of the units of `width` columns each from `weight` f32 [rows, cols], those first without which, after
// the best update of all others, the squared error of the output is least. `group`: units of which at most `quota` may
// go belong to one; empty: all may.
UnitChoice choose_units(const Tensor& weight, const InputMoments& moments, int64_t width, int64_t count,
                        const std::vector<int64_t>& group = {}, int64_t quota = 0);

// The weight whose output from the kept columns alone is nearest to that of `weight`: least squares, f32 [rows, cols]
// with 0 in the columns that go. A mask (it may be empty) keeps its zeros: conjugate gradients on the rest.
Tensor refit_columns(const Tensor& weight, const Bitmask& mask, const InputMoments& moments,
                     const std::vector<int64_t>& kept_columns);

// What the bias gains: (W - W') of the mean input, f32 [rows].
Tensor bias_gain(const Tensor& before, const Tensor& after, const InputMoments& moments);

}  // namespace hone
