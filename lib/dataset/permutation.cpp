#include "dataset/permutation.h"

#include <algorithm>
#include <bit>

#include "base/random.h"

namespace hone {

Permutation::Permutation(uint64_t size, uint64_t key)
    : size_(size), key_(key), half_bits_(std::max(1, (static_cast<int>(std::bit_width(size - 1)) + 1) / 2)) {}

uint64_t Permutation::operator()(uint64_t i) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {
    uint64_t left = i >> half_bits_, right = i & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const uint64_t mixed = mix64(key_ ^ mix64(round << 40 ^ right));
      const uint64_t new_right = left ^ (mixed & mask);
      left = right;
      right = new_right;
    }
    i = left << half_bits_ | right;
  } while (i >= size_);
  return i;
}

}  // namespace hone
