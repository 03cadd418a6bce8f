// What an encoder is given of an image or sound.
#pragma once

#include <cstdint>
#include <vector>

namespace hone {

// Of one image or sound: rows of numbers on a grid that is `columns` wide, one after another.
struct Features {
  std::vector<float> values;  // [rows, width]
  int64_t width = 1, columns = 1;

  int64_t rows() const { return static_cast<int64_t>(values.size()) / width; }
};

}  // namespace hone
