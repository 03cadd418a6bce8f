// Statistics of what enters each linear layer, taken block by block: each block is changed before the next one is
// measured, so that every layer sees the inputs it will have in the finished model.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "dataset/corpus.h"
#include "model/transformer.h"

namespace hone {

// Of one layer's input columns.
struct ColumnMoments {
  std::vector<float> squares;  // sum over tokens of x_j^2
  int64_t tokens = 0;
  bool expert = false;  // of a mixture: sees only the tokens that are routed to it

  // Whether there is enough to score the layer by. An expert needs as many tokens as it has inputs: from fewer, which
  // of its columns matter is chance. Other layers see all of the text, which is the user's choice.
  bool sufficient(int64_t cols) const { return tokens > 0 && (!expert || tokens >= cols); }
  std::vector<float> norms() const;  // sqrt(sum): Wanda's ||x_j||_2
  std::vector<float> means() const;  // sum / tokens: E[x_j^2]
};

using Moments = std::map<std::string, ColumnMoments>;  // by the weight's name in the model file

// Windows of calibration text, spread evenly over it.
struct CalibrationText {
  int64_t windows = 0, length = 0;
  std::vector<int32_t> ids;  // [windows, length]
};

// At most `windows` windows of `length` tokens that do not overlap. Throws Error(input) when the text is shorter than
// one.
CalibrationText calibration_text(const Corpus& text, int64_t windows, int64_t length);

// For the blocks in order, and last for the head (whose name is "head.weight" or, tied, "embedding.weight"): runs the
// text up to that part, gives `change` the moments of its linear layers, and goes on with what `change` has made of
// them. `change` may replace weights. Activations are in `type`. Without text `change` is called all the same, with no
// moments.
void calibrate(Transformer& model, const CalibrationText* text, DType type,
               const std::function<void(const std::vector<std::string>& names, const Moments& moments)>& change,
               const std::function<void(int64_t done, int64_t all)>& progress = {});

}  // namespace hone
