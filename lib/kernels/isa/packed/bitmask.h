// Kept elements to their places in a tile, by its mask.
#pragma once

#include "kernels/isa/packed/source.h"

#if defined(__AVX2__) && !defined(__AVX512VBMI2__)
#include "kernels/isa/packed/bitmask_avx2.h"
#endif

namespace hone::kernels::HONE_ISA {

#if defined(__AVX512VBMI2__)

// As assembly: GCC 12 takes masks through a general register, which is slow on Zen 4.
inline __mmask64 load_mask(const uint64_t* mask) {
  __mmask64 k;
  asm("kmovq %1, %0" : "=k"(k) : "m"(*mask));
  return k;
}
inline __mmask32 load_mask(const uint32_t* mask) {
  __mmask32 k;
  asm("kmovd %1, %0" : "=k"(k) : "m"(*mask));
  return k;
}

// Expansion from a register: from memory, which is what GCC makes of an intrinsic behind a load, it is microcode on Zen
// 4 and Zen 5 and takes three times as long. What the mask leaves out stays as it is in `to`.
inline void expand_bytes(__m512i& to, __mmask64 mask, __m512i from) {
  asm("vpexpandb %1, %0%{%2%}" : "+v"(to) : "v"(from), "Yk"(mask));
}
inline void expand_words(__m512i& to, __mmask32 mask, __m512i from) {
  asm("vpexpandw %1, %0%{%2%}" : "+v"(to) : "v"(from), "Yk"(mask));
}

#elif !defined(__AVX2__)

// Without an expansion instruction: 8 elements at a time, by a byte shuffle where there is one.
struct Expander {
  uint8_t index[256][8];  // for each mask: which packed byte lands where; 0x80: none
};

constexpr Expander make_expander() {
  Expander e{};
  for (int mask = 0; mask < 256; ++mask)
    for (int bit = 0, next = 0; bit < 8; ++bit)
      e.index[mask][bit] = (mask >> bit & 1) != 0 ? static_cast<uint8_t>(next++) : uint8_t{0x80};
  return e;
}

inline constexpr Expander expander = make_expander();

// 8 bytes at out = the packed bytes at `from` where `mask` has a bit, `zero` elsewhere.
inline void expand_bytes(const uint8_t* from, unsigned mask, uint8_t zero, uint8_t* out) {
#if defined(HONE_NEON)
  vst1_u8(out, vtbx1_u8(vdup_n_u8(zero), vld1_u8(from), vld1_u8(expander.index[mask])));
#else
  for (int i = 0; i < 8; ++i) {
    const uint8_t at = expander.index[mask][i];
    out[i] = (at & 0x80) != 0 ? zero : from[at];
  }
#endif
}

// The same for 8 elements of two bytes; what is pruned becomes 0.
inline void expand_words(const uint8_t* from, unsigned mask, uint8_t* out) {
#if defined(HONE_NEON)
  const uint8x8_t index = vld1_u8(expander.index[mask]);
  const uint8x16_t twice = vcombine_u8(vzip1_u8(index, index), vzip2_u8(index, index));
  // Byte indices 2i and 2i + 1; 0x80 saturates to "none", for which the table has a 0.
  const uint8x16_t bytes = vorrq_u8(vqaddq_u8(twice, twice), vreinterpretq_u8_u16(vdupq_n_u16(0x0100)));
  vst1q_u8(out, vqtbl1q_u8(vld1q_u8(from), bytes));
#else
  for (int i = 0; i < 8; ++i) {
    const uint8_t at = expander.index[mask][i];
    out[2 * i] = (at & 0x80) != 0 ? uint8_t{0} : from[2 * at];
    out[2 * i + 1] = (at & 0x80) != 0 ? uint8_t{0} : from[2 * at + 1];
  }
#endif
}

#endif

}  // namespace hone::kernels::HONE_ISA
