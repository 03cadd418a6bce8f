// Exact selection of the highest scores, the same at any number of threads.
#pragma once

#include <cstdint>
#include <string>

#include "tensor/bitmask.h"

namespace hone {

// A score as an integer of the same order: u32 [rows, cols]. 0, below the key of any number, where `existing` (may be
// empty) has already pruned. Throws Error(input), naming `where`, for a score that is not finite.
Tensor selection_keys(const Tensor& scores, const Bitmask& existing, const std::string& where);

// The border between kept and pruned: keys above `key` are kept, and of those equal to it the first `ties` by index.
struct Cut {
  uint32_t key = 0;
  int64_t ties = 0;
};

// The cut that keeps `keep` of n keys, 0 <= keep <= n. `scratch` has room for n.
Cut find_cut(const uint32_t* keys, int64_t n, int64_t keep, uint32_t* scratch);

// Mask bits of the cut's kept keys; never of a key 0.
void keep_above(const uint32_t* keys, int64_t n, Cut cut, uint8_t* bits);

// A mask that keeps `keep` of all keys, u32 [rows, cols], compared over the whole matrix.
Bitmask keep_highest(const Tensor& keys, int64_t keep);

// A mask that keeps, within each row, all but the row's share of `pruned`; shares differ by 1 at most, the first rows
// have the larger ones, and they add up to `pruned`.
Bitmask keep_highest_by_row(const Tensor& keys, int64_t pruned);

}  // namespace hone
