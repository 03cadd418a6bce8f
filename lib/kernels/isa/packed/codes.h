// Sources of elements of 4 bits: the code is the byte, or the place of the byte in a table of 16.
#pragma once

#include "kernels/isa/packed/bitmask.h"

namespace hone::kernels::HONE_ISA {

// The bytes of the codes 0 … 15, for each 16 bytes of the widest register; and that of a pruned element.
struct CodeBytes {
  alignas(64) uint8_t of[64];
};
template <PackedElement element>
inline constexpr CodeBytes code_bytes = [] {
  CodeBytes bytes{};
  for (int i = 0; i < 64; ++i)
    bytes.of[i] = static_cast<uint8_t>(info_of(element).integer_of(i % 16) + info_of(element).offset());
  return bytes;
}();
template <PackedElement element>
inline constexpr auto zero_byte = static_cast<uint8_t>(info_of(element).offset());

#if defined(__AVX512VBMI2__)

template <PackedElement element>
inline __m512i bytes_of_codes(__m512i codes) {
  if constexpr (!info_of(element).in_table) return codes;  // they are the bytes
  return _mm512_shuffle_epi8(_mm512_load_si512(code_bytes<element>.of), codes);
}

template <PackedElement element>
struct Nibbles {
  explicit Nibbles(const PackedPanel& panel) : p(panel.values) {}
  const uint8_t* p;

  void step(__m512i w[4]) {
    const __m512i low = _mm512_set1_epi8(15);
    for (int i = 0; i < 2; ++i) {
      const __m512i v = _mm512_loadu_si512(p + i * 64);
      w[2 * i] = bytes_of_codes<element>(_mm512_and_si512(v, low));
      w[2 * i + 1] = bytes_of_codes<element>(_mm512_and_si512(_mm512_srli_epi16(v, 4), low));
    }
    p += step_bytes / 2;
  }
  void step(uint8_t* out) {
    __m512i w[4];
    step(w);
    store_step(w, out);
  }
  const uint8_t* tiles(int64_t count, uint8_t* scratch) { return unpack(*this, count, scratch); }
  void fetch(int64_t at, int64_t) const { prefetch(p + (at >> 1)); }
  static constexpr bool in_place = false;
};

template <PackedElement element>
struct SparseNibbles {
  explicit SparseNibbles(const PackedPanel& panel)
      : p(panel.values), masks(static_cast<const uint64_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint64_t* masks;

  void step(__m512i w[4]) {
    const __m512i zero = _mm512_set1_epi8(static_cast<char>(zero_byte<element>)), low = _mm512_set1_epi8(15);
    for (int i = 0; i < 4; ++i) {
      const __m512i v = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
      const __m512i nibbles = _mm512_and_si512(_mm512_or_si512(v, _mm512_slli_epi16(v, 4)), low);
      w[i] = zero;
      expand_bytes(w[i], load_mask(masks + i), bytes_of_codes<element>(nibbles));
      p += (_mm_popcnt_u64(masks[i]) + 1) >> 1;
    }
    masks += 4;
  }
  void step(uint8_t* out) {
    __m512i w[4];
    step(w);
    store_step(w, out);
  }
  const uint8_t* tiles(int64_t count, uint8_t* scratch) { return unpack(*this, count, scratch); }
  void fetch(int64_t at, int64_t) const {
    prefetch(p + (at >> 2));
    prefetch(reinterpret_cast<const uint8_t*>(masks) + (at >> 3));
  }
  static constexpr bool in_place = false;
};

#else

// n % 32 == 0.
template <PackedElement element>
inline void bytes_of_codes(uint8_t* codes, int64_t n) {
  if constexpr (!info_of(element).in_table) return;
#if defined(__AVX2__)
  const __m256i bytes = _mm256_load_si256(reinterpret_cast<const __m256i*>(code_bytes<element>.of));
  for (int64_t i = 0; i < n; i += 32) {
    auto* at = reinterpret_cast<__m256i*>(codes + i);
    _mm256_storeu_si256(at, _mm256_shuffle_epi8(bytes, _mm256_loadu_si256(at)));
  }
#else
  for (int64_t i = 0; i < n; ++i) codes[i] = code_bytes<element>.of[codes[i]];
#endif
}

template <PackedElement element>
struct Nibbles {
  explicit Nibbles(const PackedPanel& panel) : p(panel.values) {}
  const uint8_t* p;

  void step(uint8_t* out) {
    const uint8_t* from = p;  // which no byte written may be, as far as the compiler knows
    p += step_bytes / 2;
    for (int half = 0; half < 2; ++half, from += 64, out += 128)
      for (int i = 0; i < 64; ++i) {
        out[i] = from[i] & 15;
        out[i + 64] = static_cast<uint8_t>(from[i] >> 4);
      }
    bytes_of_codes<element>(out - step_bytes, step_bytes);
  }
  const uint8_t* tiles(int64_t count, uint8_t* scratch) { return unpack(*this, count, scratch); }
  static constexpr bool in_place = false;
};

template <PackedElement element>
struct SparseNibbles {
  explicit SparseNibbles(const PackedPanel& panel)
      : p(panel.values), masks(static_cast<const uint64_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint64_t* masks;

  void step(uint8_t* out) {
    uint8_t nibbles[72] = {};
    for (int i = 0; i < 4; ++i, ++masks) {
      for (int b = 0; b < 32; ++b) {
        nibbles[2 * b] = p[b] & 15;
        nibbles[2 * b + 1] = static_cast<uint8_t>(p[b] >> 4);
      }
      bytes_of_codes<element>(nibbles, 64);
      const uint8_t* next = nibbles;
      for (int shift = 0; shift < 64; shift += 8, out += 8) {
        const unsigned mask = static_cast<unsigned>(*masks >> shift) & 255u;
        expand_bytes(next, mask, zero_byte<element>, out);
        next += __builtin_popcount(mask);
      }
      p += (__builtin_popcountll(*masks) + 1) >> 1;
    }
  }
  const uint8_t* tiles(int64_t count, uint8_t* scratch) { return unpack(*this, count, scratch); }
  static constexpr bool in_place = false;
};

#endif

}  // namespace hone::kernels::HONE_ISA
