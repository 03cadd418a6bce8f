// The integer of an element that is next to a number.
#pragma once

#include <algorithm>
#include <cmath>
#include <iterator>
#include <vector>

#include "kernels/packed/element.h"

namespace hone {

// Of elements with scales: of a weight over its scale.
class NearestInteger {
 public:
  explicit NearestInteger(kernels::PackedElement element) {
    const kernels::ElementInfo& info = kernels::info_of(element);
    lowest_ = static_cast<float>(info.lowest);
    highest_ = static_cast<float>(info.highest);
    if (!info.in_table) return;
    for (int code = 0; code < info.codes(); ++code) values_.push_back(static_cast<float>(info.integer_of(code)));
  }

  // Ties go to the even integer, in a table to the lower value.
  float operator()(float x) const {
    if (values_.empty()) return std::clamp(std::nearbyint(x), lowest_, highest_);
    const auto above = std::lower_bound(values_.begin(), values_.end(), x);
    if (above == values_.begin()) return *above;
    if (above == values_.end()) return values_.back();
    const float below = *std::prev(above);
    return x - below <= *above - x ? below : *above;
  }

 private:
  float lowest_ = 0, highest_ = 0;
  std::vector<float> values_;  // ascending; empty where integers are neighbours
};

}  // namespace hone
