// Orders that cost no memory.
#pragma once

#include <cstdint>

namespace hone {

// A pseudo-random permutation of [0, size): a Feistel network over the next power of four, repeated until the value
// falls inside (cycle walking: Black & Rogaway 2002, "Ciphers with Arbitrary Finite Domains").
class Permutation {
 public:
  Permutation(uint64_t size, uint64_t key);  // size > 0
  uint64_t operator()(uint64_t i) const;     // i < size

 private:
  uint64_t size_, key_;
  int half_bits_;
};

}  // namespace hone
