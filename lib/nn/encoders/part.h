// Parts of an input that are no text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hone {

// Of one image or sound: rows of numbers on a grid that is `columns` wide, one after another.
struct Features {
  std::vector<float> values;  // [rows, width]
  int64_t width = 1, columns = 1;

  int64_t rows() const { return static_cast<int64_t>(values.size()) / width; }
};

// A part of an input whose rows an encoder makes: a delimiter, a row for each of the features, a delimiter.
struct MediaPart {
  size_t encoder = 0;  // of the model's, in their order
  int64_t row = 0;     // of the input, where its first row stands
  Features features;

  int64_t rows() const { return features.rows() + 2; }
};

}  // namespace hone
