// Inputs of a layer whose columns tell of each other: a few factors, and noise.
#pragma once

#include <vector>

#include "compress/statistics.h"
#include "support/check.h"

namespace hone::test {

inline InputStatistics related_inputs(int64_t cols, int64_t tokens = 400,
                                      std::vector<StatisticKind> kinds = {StatisticKind::of<GramMatrix>()}) {
  const Tensor factors = random_tensor({tokens, 12}, 1), mix = random_tensor({12, cols}, 2);
  Tensor x = random_tensor({tokens, cols}, 3, 0.5f);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t c = 0; c < cols; ++c)
      for (int64_t f = 0; f < 12; ++f)
        x.data<float>()[t * cols + c] += factors.data<float>()[t * 12 + f] * mix.data<float>()[f * cols + c];
  InputStatistics inputs(kinds, cols, false);
  inputs.add(x.view());
  return inputs;
}

}  // namespace hone::test
