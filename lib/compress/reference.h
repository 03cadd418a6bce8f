// What a model says of calibration text, for other models to be measured against.
#pragma once

#include "compress/calibration.h"

namespace hone {

struct Distance {
  double kl = 0;         // mean over tokens of KL(reference || model), nats
  double agreement = 0;  // part of the tokens for which both have the same largest logit
  double loss = 0;       // of the model: mean over the windows' tokens but their first, nats
  double accuracy = 0;   // of the model: part of those that have the largest logit
};

// Holds the hidden states of all tokens: rows * dim numbers in f32, and the reference's head.
class Reference {
 public:
  // At most `windows` of the text's windows, spread over it; 0: all. Activations in `type`.
  Reference(const Transformer& model, const CalibrationText& text, DType type, int64_t windows = 0);

  Distance distance(const Transformer& model) const;
  int64_t tokens() const { return static_cast<int64_t>(text_.ids.size()); }

 private:
  Tensor hidden(const Transformer& model, int64_t window) const;  // f32 [length, dim]

  CalibrationText text_;
  DType type_;
  std::vector<Tensor> hidden_;  // by window
  ops::Head head_;
};

}  // namespace hone
