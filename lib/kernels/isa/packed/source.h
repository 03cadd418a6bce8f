// How the tiles of a packed panel come out of memory, one step (64 rows x k columns: 256 bytes) after the other. Each
// source has
//   step(out)              the next step, 256 bytes; integers keep their offset
//   tiles(count, scratch)  the next `count` steps as an array, in place where they lie unpacked already
// With AVX-512 a source also has step(w), which leaves the four tiles in registers, and
//   fetch(at, count)       starts loading what unpacks to about `count` bytes, `at` bytes of tiles further on
#pragma once

#include "kernels/packed/table.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hone::kernels::HONE_ISA {

inline constexpr int64_t step_bytes = 256;

inline void prefetch(const void* address) {
  __builtin_prefetch(address, 0, 3);
}

// Into the second cache only: what is wanted later than the lines that prefetch() asks for.
inline void prefetch_far(const void* address) {
  __builtin_prefetch(address, 0, 2);
}

template <class Source>
inline const uint8_t* unpack(Source& source, int64_t count, uint8_t* scratch) {
  for (int64_t i = 0; i < count; ++i) source.step(scratch + i * step_bytes);
  return scratch;
}

// What runs beside the products of a segment with several blocks of rows: each step also starts the loading of its
// share of the segment after it. Evenly: one core has so few loads under way at once that bytes which do not flow
// during one block cannot be made up for during the next.
template <class Source>
struct Ahead {
  Source source;
  int64_t at, each;  // bytes of tiles
  void operator()() {
#if defined(__AVX512VBMI2__)
    source.fetch(at, each);
#endif
    at += each;
  }
};

struct Nothing {
  void operator()() const {}
};

// Unpacked tiles: dense int8, dense bf16, and what unpack() has left.
struct Plain {
  explicit Plain(const uint8_t* tiles_at) : p(tiles_at) {}
  explicit Plain(const PackedPanel& panel) : p(panel.values) {}
  const uint8_t* p;

  const uint8_t* tiles(int64_t count, uint8_t*) {
    const uint8_t* at = p;
    p += count * step_bytes;
    return at;
  }
  void fetch(int64_t at, int64_t count) const {
    for (int64_t i = 0; i < count; i += 64) {
      prefetch(p + at + i);
      prefetch_far(p + at + i + 32 * step_bytes);
    }
  }
  static constexpr bool in_place = true;
#if defined(__AVX512VBMI2__)
  void step(__m512i w[4]) {
    for (int i = 0; i < 4; ++i) w[i] = _mm512_loadu_si512(p + i * 64);
    p += step_bytes;
  }
#endif
};

#if defined(__AVX512VBMI2__)

// The dot products and the load of a mask as assembly: GCC 12 copies an accumulator before and after each of these
// intrinsics, which costs more than the product, and takes masks through a general register, which is slow on Zen 4.
inline void dot(__m512i& sum, __m512i weights, __m512i x) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(x));
}
#if defined(__AVX512BF16__)
inline void dot(__m512& sum, __m512i weights, __m512i x) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(x));
}
#endif
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

// Four bytes to all lanes.
inline __m512i broadcast(const uint8_t* from) {
  __m512i v;
  asm("vpbroadcastd %1, %0" : "=v"(v) : "m"(*reinterpret_cast<const uint8_t(*)[4]>(from)));
  return v;
}

inline void store_step(const __m512i w[4], uint8_t* out) {
  for (int i = 0; i < 4; ++i) _mm512_storeu_si512(out + i * 64, w[i]);
}

struct Nibbles {
  explicit Nibbles(const PackedPanel& panel) : p(panel.values) {}
  const uint8_t* p;

  void step(__m512i w[4]) {
    const __m512i low = _mm512_set1_epi8(15);
    for (int i = 0; i < 2; ++i) {
      const __m512i v = _mm512_loadu_si512(p + i * 64);
      w[2 * i] = _mm512_and_si512(v, low);
      w[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
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

// Pruned elements become `Zero`, the offset form of 0, by merging in the expansion.
struct SparseBytes {
  explicit SparseBytes(const PackedPanel& panel) : p(panel.values), masks(static_cast<const uint64_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint64_t* masks;

  void step(__m512i w[4]) {
    const __m512i zero = _mm512_set1_epi8(-128);
    for (int i = 0; i < 4; ++i) {
      w[i] = zero;
      expand_bytes(w[i], load_mask(masks + i), _mm512_loadu_si512(p));
      p += _mm_popcnt_u64(masks[i]);
    }
    masks += 4;
  }
  void step(uint8_t* out) {
    __m512i w[4];
    step(w);
    store_step(w, out);
  }
  const uint8_t* tiles(int64_t count, uint8_t* scratch) { return unpack(*this, count, scratch); }
  void fetch(int64_t at, int64_t) const {  // as if half were pruned
    prefetch(p + (at >> 1));
    prefetch(reinterpret_cast<const uint8_t*>(masks) + (at >> 3));
  }
  static constexpr bool in_place = false;
};

struct SparseNibbles {
  explicit SparseNibbles(const PackedPanel& panel)
      : p(panel.values), masks(static_cast<const uint64_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint64_t* masks;

  void step(__m512i w[4]) {
    const __m512i zero = _mm512_set1_epi8(8), low = _mm512_set1_epi8(15);
    for (int i = 0; i < 4; ++i) {
      const __m512i v = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
      const __m512i nibbles = _mm512_and_si512(_mm512_or_si512(v, _mm512_slli_epi16(v, 4)), low);
      w[i] = zero;
      expand_bytes(w[i], load_mask(masks + i), nibbles);
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

struct SparseWords {
  explicit SparseWords(const PackedPanel& panel) : p(panel.values), masks(static_cast<const uint32_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint32_t* masks;

  void step(__m512i w[4]) {
    for (int i = 0; i < 4; ++i) {
      w[i] = _mm512_setzero_si512();
      expand_words(w[i], load_mask(masks + i), _mm512_loadu_si512(p));
      p += 2 * _mm_popcnt_u32(masks[i]);
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
    prefetch(p + (at >> 1));
    prefetch(reinterpret_cast<const uint8_t*>(masks) + (at >> 4));
  }
  static constexpr bool in_place = false;
};

#else

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
#if defined(__AVX2__)
  // The shuffle puts 0 where nothing lands, so values travel xored with `zero`.
  const __m128i z = _mm_set1_epi8(static_cast<char>(zero));
  const __m128i v = _mm_xor_si128(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)), z);
  const __m128i index = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(expander.index[mask]));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_xor_si128(_mm_shuffle_epi8(v, index), z));
#else
  for (int i = 0; i < 8; ++i) {
    const uint8_t at = expander.index[mask][i];
    out[i] = (at & 0x80) != 0 ? zero : from[at];
  }
#endif
}

// The same for 8 elements of two bytes; what is pruned becomes 0.
inline void expand_words(const uint8_t* from, unsigned mask, uint8_t* out) {
#if defined(__AVX2__)
  const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  const __m128i index = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(expander.index[mask]));
  const __m128i twice = _mm_unpacklo_epi8(index, index);  // byte indices 2i and 2i + 1; 0x80 saturates to "none"
  const __m128i bytes = _mm_or_si128(_mm_adds_epu8(twice, twice), _mm_set1_epi16(0x0100));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_shuffle_epi8(v, bytes));
#else
  for (int i = 0; i < 8; ++i) {
    const uint8_t at = expander.index[mask][i];
    out[2 * i] = (at & 0x80) != 0 ? uint8_t{0} : from[2 * at];
    out[2 * i + 1] = (at & 0x80) != 0 ? uint8_t{0} : from[2 * at + 1];
  }
#endif
}

struct Nibbles {
  explicit Nibbles(const PackedPanel& panel) : p(panel.values) {}
  const uint8_t* p;

  void step(uint8_t* out) {
    for (int half = 0; half < 2; ++half, p += 64, out += 128)
      for (int i = 0; i < 64; ++i) {
        out[i] = p[i] & 15;
        out[i + 64] = static_cast<uint8_t>(p[i] >> 4);
      }
  }
  const uint8_t* tiles(int64_t count, uint8_t* scratch) { return unpack(*this, count, scratch); }
  static constexpr bool in_place = false;
};

struct SparseBytes {
  explicit SparseBytes(const PackedPanel& panel) : p(panel.values), masks(static_cast<const uint64_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint64_t* masks;

  void step(uint8_t* out) {
    for (int i = 0; i < 4; ++i, ++masks)
      for (int shift = 0; shift < 64; shift += 8, out += 8) {
        const unsigned mask = static_cast<unsigned>(*masks >> shift) & 255u;
        expand_bytes(p, mask, 128, out);
        p += __builtin_popcount(mask);
      }
  }
  const uint8_t* tiles(int64_t count, uint8_t* scratch) { return unpack(*this, count, scratch); }
  static constexpr bool in_place = false;
};

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
      const uint8_t* next = nibbles;
      for (int shift = 0; shift < 64; shift += 8, out += 8) {
        const unsigned mask = static_cast<unsigned>(*masks >> shift) & 255u;
        expand_bytes(next, mask, 8, out);
        next += __builtin_popcount(mask);
      }
      p += (__builtin_popcountll(*masks) + 1) >> 1;
    }
  }
  const uint8_t* tiles(int64_t count, uint8_t* scratch) { return unpack(*this, count, scratch); }
  static constexpr bool in_place = false;
};

struct SparseWords {
  explicit SparseWords(const PackedPanel& panel) : p(panel.values), masks(static_cast<const uint32_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint32_t* masks;

  void step(uint8_t* out) {
    for (int i = 0; i < 4; ++i, ++masks)
      for (int shift = 0; shift < 32; shift += 8, out += 16) {
        const unsigned mask = (*masks >> shift) & 255u;
        expand_words(p, mask, out);
        p += 2 * __builtin_popcount(mask);
      }
  }
  const uint8_t* tiles(int64_t count, uint8_t* scratch) { return unpack(*this, count, scratch); }
  static constexpr bool in_place = false;
};

#endif

#if defined(__AVX512VBMI2__)
// Tiles as they come out of another source, left in memory as well for the rows that registers have no room for.
template <class Source>
struct Keeping {
  Source source;
  uint8_t* out;
  void step(__m512i w[4]) {
    source.step(w);
    store_step(w, out);
    out += step_bytes;
  }
};
#endif

// Calls add(m, count, source, beside) for one block of `count` rows of x, from row m on, after the other; each takes
// `steps` steps from the source it is given. Where tiles fit registers the first block has them from `source` itself,
// which moves on; the others find them in memory. block_of(rows left) is the size of a block.
template <class Source, class Add>
inline __attribute__((always_inline)) void in_blocks(Source& source, int64_t steps, int64_t rows, uint8_t* scratch,
                                                     int64_t (*block_of)(int64_t), Add add) {
  const int64_t each_row = (step_bytes + rows - 1) / rows;
  int64_t m = 0;
#if defined(__AVX512VBMI2__)
  const int64_t first = block_of(rows);
  const Ahead<Source> ahead{source, steps * step_bytes, first * each_row};
  const uint8_t* tiles = scratch;
  if constexpr (Source::in_place) {
    tiles = source.p;
    add(m, first, source, ahead);
  } else {
    Keeping<Source> keeping{source, scratch};
    add(m, first, keeping, ahead);
    source = keeping.source;
  }
  m = first;
#else
  const uint8_t* tiles = source.tiles(steps, scratch);
#endif
  for (int64_t count; m < rows; m += count) {
    count = block_of(rows - m);
    Plain plain(tiles);
    add(m, count, plain, Ahead<Source>{source, m * each_row * steps, count * each_row});
  }
}

}  // namespace hone::kernels::HONE_ISA
