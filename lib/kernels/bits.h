// Bits of a matrix, as masks have them: row after row, the lowest bit of a byte first, each row padded to a byte.
#pragma once

#include <cstdint>

namespace hone::kernels {

// Always inlined, since the files of the instruction sets include them too.
[[gnu::always_inline]] inline int64_t bit_row_bytes(int64_t cols) {
  return (cols + 7) / 8;
}
[[gnu::always_inline]] inline bool bit_at(const uint8_t* row, int64_t c) {
  return (row[c / 8] >> (c % 8) & 1) != 0;
}
[[gnu::always_inline]] inline void set_bit(uint8_t* row, int64_t c) {
  row[c / 8] = static_cast<uint8_t>(row[c / 8] | 1u << (c % 8));
}

}  // namespace hone::kernels
