// Layers that single sequences pass by while a model trains (stochastic depth, Huang et al., arXiv 1603.09382; by
// depth as LayerSkip has it, Elhoushi et al., arXiv 2404.16710, section 4.1): what remains of a batch goes through the
// layer, so that it costs as much less.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "nn/call.h"
#include "ops/take.h"

namespace hone {

// Probabilities by layer that grow with depth, from 0 to `most` in the last: most * (exp(layer * ln 2 / (layers - 1)) -
// 1) (LayerSkip, equation 1 with its text). None for `most` 0. Throws Error(usage) outside [0, 1).
std::vector<float> skip_by_depth(double most, int64_t layers);

// What of a call goes through a layer.
struct Remaining {
  std::vector<int32_t> rows;
  Call call;    // of these rows alone
  float scale;  // of what the layer gives them: 1 / (1 - probability), so that what is expected is what a whole call
                // without skipping gives
};
// None: all of it, as it is. A function of the call's noise and the layer: a layer that runs again passes the same by.
// Only whole sequences can pass by: the call has no state.
std::optional<Remaining> remaining(const Call& call, int64_t layer);

// f(x, call) for the rows that remain, and zeros for the others.
template <class F>
Var for_some(const Var& x, const Call& call, int64_t layer, F&& f) {
  const std::optional<Remaining> some = remaining(call, layer);
  if (!some) return f(x, call);
  const int64_t rows = x.shape()[0];
  if (some->rows.empty()) return Var(Tensor::zeros(x.shape(), x.value().dtype()));
  const Var taken = ops::take_rows(x, some->rows);
  if (Tape::recording()) x.drop_value();  // a norm gave it, which reads its own input going back
  return ops::put_rows(f(taken, some->call), some->rows, rows, some->scale);
}

}  // namespace hone
