// Masks of pruned matrices: bits from bytes and back, and a check of what others made.
#pragma once

#include <string>

#include "tensor/bitmask.h"

namespace hone {

Bitmask pack_mask(const Tensor& kept);    // u8 [rows, cols], zero or not, to bits
Tensor expand_mask(const Bitmask& mask);  // bits to u8 [rows, cols] of 0 and 1

// Throws Error(input), naming `where`, unless `mask` has the size of [rows, cols] and keeps nothing in its padding.
void check_mask(const Bitmask& mask, int64_t rows, int64_t cols, const std::string& where);

}  // namespace hone
