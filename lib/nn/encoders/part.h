// Parts of an input that are no text.
#pragma once

#include <cstddef>
#include <cstdint>

#include "media/features.h"

namespace hone {

// A part of an input whose rows an encoder makes: a delimiter, a row for each of the features, a delimiter.
struct MediaPart {
  size_t encoder = 0;  // of the model's, in their order
  int64_t row = 0;     // of the input, where its first row stands
  Features features;

  int64_t rows() const { return features.rows() + 2; }
};

}  // namespace hone
