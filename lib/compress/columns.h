// Columns of a weight changed from the first to the last, each behind what those before it cost: the loop of SparseGPT
// and GPTQ (arXiv 2301.00774, algorithm 1; 2210.17323, algorithm 1).
#pragma once

#include <algorithm>
#include <string>

#include "base/stop.h"
#include "compress/curvature.h"
#include "kernels/parallel.h"

namespace hone {

class CompensatedColumns {
 public:
  // `weight` f32 [rows, cols] is copied. Throws Error(input), naming `where`, where the curvature cannot be factored.
  CompensatedColumns(const Tensor& weight, const Curvature& curvature, const std::string& where);

  // For every column c from the first on: w becomes v = change(r, c, w), and the columns behind make up for it:
  // w[r, j] -= (w - v) R_cj / R_cc. Before each `width` columns (the last may be fewer) before(first, count) sees the
  // weights as they are then. What lies beyond a block of about 128 columns is changed at its end, in one product (lazy
  // batches). `change` must not depend on other rows: rows run on several threads.
  template <class Before, class Change>
  void run(int64_t width, Before&& before, Change&& change) {
    const int64_t block = width * std::max<int64_t>(1, 128 / width);
    for (int64_t first = 0; first < cols_; first += block) {
      check_stop();
      const int64_t count = std::min(block, cols_ - first);
      errors_ = Tensor::zeros({rows_, count});
      for (int64_t c = first; c < first + count; c += width) {
        const int64_t some = std::min(width, first + count - c);
        before(c, some);
        kernels::parallel_for(rows_, kernels::row_grain(some * count), [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r)
            for (int64_t i = c; i < c + some; ++i) {
              float* w = weight_.data<float>() + r * cols_;
              const float changed = change(r, i, w[i]);
              make_up(r, i, w[i] - changed, first, count);
              w[i] = changed;
            }
        });
      }
      spread(first, count);
    }
  }

  const Tensor& weight() const { return weight_; }
  float at(int64_t r, int64_t c) const { return weight_.data<float>()[r * cols_ + c]; }
  // R_cc: what the columns behind c cannot tell of it. To lose a weight w of it costs w^2 / R_cc^2.
  float deviation(int64_t c) const { return factor_.data<float>()[c * cols_ + c]; }

 private:
  // Within the block of columns.
  void make_up(int64_t r, int64_t c, float difference, int64_t first, int64_t count) {
    const float error = difference / deviation(c);
    if (error == 0) return;
    errors_.data<float>()[r * count + c - first] = -error;
    const float* factor = factor_.data<float>() + c * cols_;
    float* w = weight_.data<float>() + r * cols_;
    for (int64_t j = c + 1; j < first + count; ++j) w[j] -= error * factor[j];
  }
  void spread(int64_t first, int64_t count);  // to the columns behind the block

  int64_t rows_, cols_;
  Tensor weight_, factor_;  // factor: R, f32 [cols, cols], upper triangular
  Tensor errors_;           // f32 [rows, columns of the block]: the error of each over -R_cc
};

}  // namespace hone
