// What the codes of elements of less than 8 bits become: the code is the byte, or the place of the byte in a table of
// up to 16.
#pragma once

#include "kernels/isa/features.h"
#include "kernels/packed/element.h"

namespace hone::kernels::HONE_ISA {

// The bytes of the codes 0 … 15, for each 16 bytes of the widest register; and that of a pruned element.
struct CodeBytes {
  alignas(64) uint8_t of[64];
};
template <PackedElement element>
inline constexpr CodeBytes code_bytes = [] {
  static_assert(info_of(element).codes() <= 16, "a shuffle looks into 16 bytes");
  CodeBytes bytes{};
  for (int i = 0; i < 64; ++i) {
    const int code = i % 16 < info_of(element).codes() ? i % 16 : 0;
    bytes.of[i] = static_cast<uint8_t>(info_of(element).integer_of(code) + info_of(element).offset());
  }
  return bytes;
}();
template <PackedElement element>
inline constexpr auto zero_byte = static_cast<uint8_t>(info_of(element).offset());
template <PackedElement element>
inline constexpr auto code_mask = static_cast<uint8_t>(info_of(element).codes() - 1);

}  // namespace hone::kernels::HONE_ISA
