// What a model says of calibration text, for other models to be measured against.
#pragma once

#include <functional>
#include <optional>

#include "compress/calibration.h"

namespace hone {

struct Distance {
  double kl = 0;         // mean over rows of KL(reference || model), nats; of examples, over those with a target
  double agreement = 0;  // part of those for which both have the same largest logit
  double loss = 0;       // of the model: mean over the windows' tokens but their first, or over examples' targets, nats
  double accuracy = 0;   // of the model: part of those that have the largest logit
};

// What a weight alone does to the predictions, for choices by it. Throws Error(input) with its name where it is no
// number: sums and orders of such mean nothing.
double finite_divergence(double kl, const std::string& weight);

// Of a text, where a distance is measured for each of many layers or weights.
inline constexpr int64_t divergence_windows = 16;

// At most `windows` of a text's windows or examples, spread over it; 0: all.
CalibrationText some_windows(const CalibrationText& text, int64_t windows);

// Holds the hidden states of all rows: rows * dim numbers in f32, and the reference's head.
class Reference {
 public:
  // On some_windows() of the text, with activations in `type`.
  Reference(const Transformer& model, const CalibrationText& text, DType type, int64_t windows = 0);

  Distance distance(const Transformer& model) const;
  // Of the model's head on hidden states that were computed elsewhere: f32 [length, dim] of a window.
  Distance distance(const Transformer& model, const std::function<Tensor(int64_t window)>& hidden) const;
  // The same as distance(model), where the divergence is at most `most`; elsewhere nothing, as soon as that is known.
  std::optional<Distance> distance_within(const Transformer& model, double most) const;
  Distance own() const;  // of the reference itself, without another run of it
  // What one of a model holds beside its head, where it is of all windows of the text.
  static double bytes(const Transformer& model, const CalibrationText& text);

 private:
  Tensor hidden(const Transformer& model, int64_t window) const;  // f32 [length, dim]
  // Of a model with that head; `hidden(window)` is its hidden states.
  std::optional<Distance> distance(const ops::Head& head, const std::function<Tensor(int64_t)>& hidden,
                                   double most) const;

  CalibrationText text_;
  DType type_;
  std::vector<Tensor> hidden_;  // by window
  ops::Head head_;
};

}  // namespace hone
