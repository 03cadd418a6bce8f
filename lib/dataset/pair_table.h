// A hash table from pairs of token ids to token ids: what encoding looks things up in, once for every pair of
// neighbours.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "base/random.h"

namespace hone {

inline uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// Linear probing at a load of at most a half. Sized once, for `count` pairs.
class PairTable {
 public:
  static constexpr int32_t none = INT32_MAX;

  explicit PairTable(size_t count) : slots_(std::bit_ceil(2 * count + 2)) {}

  bool insert(int32_t left, int32_t right, int32_t value) {  // false if the pair is there already
    Slot& slot = slots_[place(pair_key(left, right))];
    if (slot.value != none) return false;
    slot = {pair_key(left, right), value};
    return true;
  }

  int32_t find(int32_t left, int32_t right) const { return slots_[place(pair_key(left, right))].value; }

 private:
  struct Slot {
    uint64_t key = 0;
    int32_t value = none;
  };
  size_t place(uint64_t key) const {
    size_t i = mix64(key) & (slots_.size() - 1);
    while (slots_[i].value != none && slots_[i].key != key) i = (i + 1) & (slots_.size() - 1);
    return i;
  }
  std::vector<Slot> slots_;
};

}  // namespace hone
