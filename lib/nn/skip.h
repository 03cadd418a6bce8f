// Layers that single sequences pass by while a model trains (stochastic depth, Huang et al., arXiv 1603.09382;
// LayerSkip, Elhoushi et al., arXiv 2404.16710): what remains of a batch goes through the layer, so that it costs as
// much less. How likely that is, by layer and step, is a rule: a row of the table in skip.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nn/call.h"
#include "ops/take.h"

namespace hone {

// Where in a model and in its run a sequence may pass a layer by; both count from 0.
struct SkipPlace {
  int64_t layer = 0, layers = 1;
  int64_t step = 0, steps = 1;

  double depth() const { return layers > 1 ? static_cast<double>(layer) / static_cast<double>(layers - 1) : 1; }
  double progress() const { return steps > 1 ? static_cast<double>(step) / static_cast<double>(steps - 1) : 1; }
};

// A row of the table in skip.cpp.
struct SkipRule {
  std::string_view name;
  std::string_view what;                // for people, after the name
  double (*part)(const SkipPlace& at);  // the probability there, as a part of the highest: 0 to 1
};
std::span<const SkipRule> skip_rules();  // the first is meant where none is named

// The highest probability, and the rule of what part of it a layer has.
struct LayerDropout {
  double most = 0;                 // at least 0 and below 1; 0: no layer is passed by
  const SkipRule* rule = nullptr;  // null: the first of skip_rules()

  bool operator==(const LayerDropout&) const = default;
};
// "0.2" or "0.2:linear". Throws Error(usage) for a number that cannot be and for a name of no rule.
LayerDropout layer_dropout(const std::string& text);
std::string to_string(const LayerDropout& dropout);  // the shortest such text

// Probabilities by layer at step `step` of `steps`; none where no layer is passed by. Throws Error(usage) where the
// highest is outside [0, 1).
std::vector<float> skip_probabilities(const LayerDropout& dropout, int64_t layers, int64_t step, int64_t steps);

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
