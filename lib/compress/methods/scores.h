// For methods that leave the weights as they are and prune those of the lowest scores.
#pragma once

#include "base/stop.h"
#include "compress/methods/prune_method.h"
#include "kernels/parallel.h"

namespace hone {

// f(weight, column) of every weight.
template <class F>
Tensor score_each(const Tensor& weight, F&& f) {
  const int64_t rows = weight.dim(0), cols = weight.dim(1);
  Tensor scores = Tensor::empty({rows, cols});
  const float* w = weight.data<float>();
  float* s = scores.data<float>();
  kernels::parallel_for(rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < cols; ++c) s[r * cols + c] = f(w[r * cols + c], c);
  });
  return scores;
}

inline PrunedWeight prune_lowest(const WeightToPrune& what, const Tensor& scores, ComparisonGroup comparison) {
  check_stop();
  return {what.weight, select_mask(scores, what.pattern, what.sparsity, comparison, what.name, what.mask), scores};
}

}  // namespace hone
