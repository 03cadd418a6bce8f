// The numbers of an element of up to 8 bits by its integers q (kernels/packed/element.h), and the q next to a number.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/packed/element.h"

namespace hone::kernels {

class ElementNumbers {
 public:
  explicit ElementNumbers(PackedElement element) {
    const ElementInfo& info = info_of(element);
    lowest_ = static_cast<float>(info.lowest);
    highest_ = static_cast<float>(info.highest);
    neighbours_ = info.codes_are == Codes::offset;
    table_ = info.codes_are == Codes::table;
    for (int q = -128; q < 128; ++q) {
      of_[q + 128] = info.number_of(q);
      if (info.code_of(q) < 0) continue;
      numbers_.push_back(of_[q + 128]);
      integers_.push_back(q);
    }
  }

  float operator[](int q) const { return of_[q + 128]; }

  // Of a weight over its scale. Ties go to the even integer, in a table to the lower value.
  int nearest(float x) const {
    if (neighbours_) return static_cast<int>(std::clamp(std::nearbyint(x), lowest_, highest_));
    const auto above = std::lower_bound(numbers_.begin(), numbers_.end(), x);
    if (above == numbers_.begin()) return integers_.front();
    if (above == numbers_.end()) return integers_.back();
    const size_t i = static_cast<size_t>(above - numbers_.begin());
    const float down = x - numbers_[i - 1], up = numbers_[i] - x;
    const bool lower = down < up || (down == up && (table_ || integers_[i - 1] % 2 == 0));
    return integers_[lower ? i - 1 : i];
  }

 private:
  float of_[256];
  bool neighbours_, table_;
  float lowest_, highest_;
  std::vector<float> numbers_;  // ascending
  std::vector<int> integers_;   // theirs
};

}  // namespace hone::kernels
