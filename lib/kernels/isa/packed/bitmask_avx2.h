// Kept elements to their places in a tile with AVX2, which has no expansion: bytes 32 at a time, by a shuffle whose
// indices are running counts of the mask's bits. Nothing is branched on, and what comes next waits for a population
// count alone. Less than 5 operations for 8 elements: a table of indices, 8 of them a row, takes twice as many.
#pragma once

#include "kernels/isa/packed/source.h"

namespace hone::kernels::HONE_ISA {

// Two masks of 64 bits, in both halves: what kept_of() takes.
inline __m256i load_masks(const uint64_t* two) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(two)));
}

// Group `at` of 32 bits as 32 bytes, 255 or 0.
template <int at>
inline __attribute__((always_inline)) __m256i kept_of(__m256i masks) {
  const __m256i eighths = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
  const __m256i bits = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const __m256i each = _mm256_shuffle_epi8(masks, _mm256_add_epi8(eighths, _mm256_set1_epi8(4 * at)));
  return _mm256_cmpeq_epi8(_mm256_and_si256(each, bits), bits);
}

// Four bytes of 255 or 0, as one number, times this: how many are not 0 up to each of them.
inline constexpr uint32_t counting = [] {
  uint32_t inverse = 1;  // of 255, modulo 2^32
  for (int i = 0; i < 5; ++i) inverse *= 2 - 255 * inverse;
  return inverse * 0x01010101u;
}();
static_assert(0x00ff00ffu * counting == 0x02020101u && 0xffffffffu * counting == 0x04030201u);

// Which of 16 kept bytes lands in each place of its half; of places where none does, anything.
inline __attribute__((always_inline)) __m256i places_of(__m256i kept) {
  const __m128i to_8 = _mm_setr_epi32(-1, 0x03030303, -1, 0x0b0b0b0b);  // counts of the 4, and of the 8, before these
  const __m128i to_16 = _mm_setr_epi32(-1, -1, 0x07070707, 0x07070707);
  __m256i count;  // as assembly: GCC makes shifts and additions of the product, four operations
  asm("vpmulld %2, %1, %0" : "=x"(count) : "x"(kept), "x"(_mm256_set1_epi32(static_cast<int>(counting))));
  count = _mm256_add_epi8(count, _mm256_shuffle_epi8(count, _mm256_broadcastsi128_si256(to_8)));
  count = _mm256_add_epi8(count, _mm256_shuffle_epi8(count, _mm256_broadcastsi128_si256(to_16)));
  return _mm256_add_epi8(count, _mm256_set1_epi8(-1));
}

// 32 bytes at out: of each 16 the packed bytes at `first` and `second` where they are kept, `zero` elsewhere.
inline __attribute__((always_inline)) void expand_32(const uint8_t* first, const uint8_t* second, __m256i kept,
                                                     __m256i zero, uint8_t* out) {
  const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(first));
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(second));
  const __m256i v = _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1), places_of(kept));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_blendv_epi8(zero, v, kept));
}

// 64 bytes at out = the packed bytes at `from` where `mask`, which is number `at` of `masks`, has a bit, `zero`
// elsewhere. Reads at most 16 bytes behind the packed ones.
template <int at>
inline __attribute__((always_inline)) void expand_bytes(const uint8_t* from, __m256i masks, uint64_t mask, __m256i zero,
                                                        uint8_t* out) {
  const uint8_t* middle = from + _mm_popcnt_u32(static_cast<uint32_t>(mask));
  expand_32(from, from + _mm_popcnt_u32(static_cast<uint16_t>(mask)), kept_of<2 * at>(masks), zero, out);
  expand_32(middle, from + _mm_popcnt_u64(mask << 16), kept_of<2 * at + 1>(masks), zero, out + 32);
}

// For each 8 bits of a mask: which of 16 packed bytes lands where, words of two; 0x80: none.
struct WordPlaces {
  alignas(64) uint8_t of[256][16];
};
inline constexpr WordPlaces word_places = [] {
  WordPlaces places{};
  for (int mask = 0; mask < 256; ++mask)
    for (int bit = 0, next = 0; bit < 8; ++bit) {
      const bool kept = (mask >> bit & 1) != 0;
      for (int i = 0; i < 2; ++i)
        places.of[mask][2 * bit + i] = kept ? static_cast<uint8_t>(2 * next + i) : uint8_t{0x80};
      next += kept;
    }
  return places;
}();

// 64 bytes at out = the packed words at `from` where `mask` has a bit, 0 elsewhere. Reads at most 16 bytes behind the
// packed ones.
inline void expand_words(const uint8_t* from, uint32_t mask, uint8_t* out) {
  const auto part = [&](uint32_t bits, int64_t before, int at) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * before));
    const __m128i places = _mm_load_si128(reinterpret_cast<const __m128i*>(word_places.of[bits & 255u]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + at), _mm_shuffle_epi8(v, places));
  };
  part(mask, 0, 0);
  part(mask >> 8, _mm_popcnt_u32(static_cast<uint8_t>(mask)), 16);
  part(mask >> 16, _mm_popcnt_u32(static_cast<uint16_t>(mask)), 32);
  part(mask >> 24, _mm_popcnt_u32(mask << 8), 48);
}

// Sources that unpack to memory first what they expand then do so for so many steps at once: what is read again has
// long been written, and stays in the first cache.
inline constexpr int64_t steps_at_once = 8;

}  // namespace hone::kernels::HONE_ISA
