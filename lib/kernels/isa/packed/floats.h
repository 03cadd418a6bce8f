// Sources of floating-point elements of 8 bits: codes become bf16 numbers, which have all of theirs.
#pragma once

#include "kernels/isa/packed/bitmask.h"

namespace hone::kernels::HONE_ISA {

// A code's size, exponent and mantissa, becomes that of the bf16 number by shifting and adding; but sizes without an
// exponent, of which there are few, are other numbers there.
template <PackedElement element>
inline constexpr int size_shift = [] {
  static_assert(info_of(element).bits == 8, "an element of other bits brings its own sources");
  return 7 - info_of(element).mantissa;
}();
template <PackedElement element>
inline constexpr int size_added = (127 - info_of(element).bias) << 7;
template <PackedElement element>
inline constexpr int small_sizes = 1 << info_of(element).mantissa;

#if defined(__AVX512VBMI2__)

struct SmallWords {
  alignas(64) uint16_t of[32];
};
template <PackedElement element>
inline constexpr SmallWords small_words = [] {
  static_assert(small_sizes<element> <= 32);
  SmallWords words{};
  for (int q = 0; q < small_sizes<element>; ++q)
    words.of[q] = static_cast<uint16_t>(std::bit_cast<uint32_t>(info_of(element).number_of(q)) >> 16);
  return words;
}();

// 32 codes, each in a word.
template <PackedElement element>
inline __m512i words_of_codes(__m256i codes) {
  const __m512i wide = _mm512_cvtepu8_epi16(codes), size = _mm512_and_si512(wide, _mm512_set1_epi16(127));
  const __m512i usual =
      _mm512_add_epi16(_mm512_slli_epi16(size, size_shift<element>), _mm512_set1_epi16(size_added<element>));
  const __mmask32 small = _mm512_cmplt_epu16_mask(size, _mm512_set1_epi16(small_sizes<element>));
  const __m512i words = _mm512_mask_permutexvar_epi16(usual, small, size, _mm512_load_si512(small_words<element>.of));
  return _mm512_or_si512(words, _mm512_slli_epi16(_mm512_and_si512(wide, _mm512_set1_epi16(128)), 8));
}

inline __m256i load_codes(const uint8_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

template <PackedElement element>
struct DenseFloats : Unpacking<DenseFloats<element>> {
  explicit DenseFloats(const PackedPanel& panel) : p(panel.values) {}
  const uint8_t* p;

  void step(__m512i w[4]) {
    for (int i = 0; i < 4; ++i, p += 32) w[i] = words_of_codes<element>(load_codes(p));
  }
  static constexpr int64_t line_tiles = 128;
  void fetch(int64_t at) const { prefetch(p + (at >> 1)); }
};

template <PackedElement element>
struct SparseFloats : Unpacking<SparseFloats<element>> {
  explicit SparseFloats(const PackedPanel& panel) : p(panel.values), masks(static_cast<const uint32_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint32_t* masks;

  void step(__m512i w[4]) {
    for (int i = 0; i < 4; ++i) {
      w[i] = _mm512_setzero_si512();
      expand_words(w[i], load_mask(masks + i), words_of_codes<element>(load_codes(p)));
      p += _mm_popcnt_u32(masks[i]);
    }
    masks += 4;
  }
  static constexpr int64_t line_tiles = 256;  // as if half were pruned
  void fetch(int64_t at) const {
    prefetch(p + (at >> 2));
    if (at % 1024 == 0) prefetch(reinterpret_cast<const uint8_t*>(masks) + (at >> 4));
  }
};

#else

template <PackedElement element>
inline void words_of_codes(const uint8_t* codes, int64_t n, uint8_t* out) {
  constexpr float least = info_of(element).least();
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const int32_t code = codes[i], size = code & 127;
    const float number = static_cast<float>(size) * least;  // exact in bf16 where it is small
    int32_t small;
    __builtin_memcpy(&small, &number, 4);
    const int32_t usual = (size << size_shift<element>)+size_added<element>;
    const auto word = static_cast<uint16_t>((size < small_sizes<element> ? small >> 16 : usual) | (code & 128) << 8);
    __builtin_memcpy(out + 2 * i, &word, 2);
  }
}

template <PackedElement element>
struct DenseFloats {
  explicit DenseFloats(const PackedPanel& panel) : p(panel.values) {}
  const uint8_t* p;

  const uint8_t* tiles(int64_t count, uint8_t* scratch) {
    words_of_codes<element>(p, count * step_bytes / 2, scratch);
    p += count * step_bytes / 2;
    return scratch;
  }
  static constexpr bool in_place = false;
};

#if defined(__AVX2__)
template <PackedElement element>
struct SparseFloats : Unpacking<SparseFloats<element>> {
  explicit SparseFloats(const PackedPanel& panel) : p(panel.values), masks(static_cast<const uint32_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint32_t* masks;

  const uint8_t* tiles(int64_t count, uint8_t* scratch) {
    alignas(64) uint8_t words[steps_at_once * step_bytes];
    const uint8_t* from = p;
    const uint32_t* mask = masks;
    uint8_t* out = scratch;
    for (int64_t n = 0; n < count; n += steps_at_once) {
      const int64_t tiles = 4 * (count - n < steps_at_once ? count - n : steps_at_once);
      for (int64_t i = 0; i < tiles; ++i) {
        words_of_codes<element>(from, 32, words + 64 * i);
        from += _mm_popcnt_u32(mask[i]);
      }
      for (int64_t i = 0; i < tiles; ++i, ++mask, out += 64) expand_words(words + 64 * i, *mask, out);
    }
    p = from;
    masks = mask;
    return scratch;
  }
};
#else
template <PackedElement element>
struct SparseFloats : Unpacking<SparseFloats<element>> {
  explicit SparseFloats(const PackedPanel& panel) : p(panel.values), masks(static_cast<const uint32_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint32_t* masks;

  void step(uint8_t* out) {
    uint8_t words[64 + 16] = {};
    for (int i = 0; i < 4; ++i, ++masks) {
      words_of_codes<element>(p, 32, words);
      const uint8_t* next = words;
      for (int shift = 0; shift < 32; shift += 8, out += 16) {
        const unsigned mask = (*masks >> shift) & 255u;
        expand_words(next, mask, out);
        next += 2 * __builtin_popcount(mask);
      }
      p += __builtin_popcount(*masks);
    }
  }
};
#endif

#endif

}  // namespace hone::kernels::HONE_ISA
