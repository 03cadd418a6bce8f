// Sources of elements of less than 8 bits; of AVX2 in a file of their own.
#pragma once

#include "kernels/isa/packed/bitmask.h"
#include "kernels/isa/packed/code_bytes.h"

#if defined(__AVX2__) && !defined(__AVX512VBMI2__)
#include "kernels/isa/packed/codes_avx2.h"
#endif

namespace hone::kernels::HONE_ISA {

#if defined(__AVX512VBMI2__)

template <PackedElement element>
inline __m512i bytes_of_codes(__m512i codes) {
  if constexpr (info_of(element).codes_are == Codes::offset) return codes;  // they are the bytes
  return _mm512_shuffle_epi8(_mm512_load_si512(code_bytes<element>.of), codes);
}

// Where the codes of a stream lie: eight of them in as many bytes as one has bits. The bytes go to a lane of 64 bits,
// in which byte k then is cut out at bit k * bits.
struct StreamPlaces {
  alignas(64) uint8_t bytes[64], shifts[64];
};
template <int Bits>
inline constexpr StreamPlaces stream_places = [] {
  StreamPlaces places{};
  for (int i = 0; i < 64; ++i) {
    places.bytes[i] = static_cast<uint8_t>(i / 8 * Bits + i % 8 % Bits);
    places.shifts[i] = static_cast<uint8_t>(i % 8 * Bits);
  }
  return places;
}();

// 64 codes from a stream that starts at the first byte of v. Masked by ones: GCC 12 warns of its own unmasked forms
// (its bug 105593).
template <PackedElement element>
inline __m512i codes_of_stream(__m512i v) {
  constexpr int bits = info_of(element).bits;
  constexpr __mmask64 all = ~uint64_t{0};
  const __m512i spread = _mm512_maskz_permutexvar_epi8(all, _mm512_load_si512(stream_places<bits>.bytes), v);
  const __m512i cut = _mm512_maskz_multishift_epi64_epi8(all, _mm512_load_si512(stream_places<bits>.shifts), spread);
  return _mm512_and_si512(cut, _mm512_set1_epi8(static_cast<char>(code_mask<element>)));
}

// Tiles whose elements share bytes: 2 of 4 bits, 4 of 2 bits.
template <PackedElement element>
struct SharedCodes : Unpacking<SharedCodes<element>> {
  static constexpr int bits = info_of(element).bits, shared = 8 / bits;
  explicit SharedCodes(const PackedPanel& panel) : p(panel.values) {}
  const uint8_t* p;

  void step(__m512i w[4]) {
    const __m512i mask = _mm512_set1_epi8(static_cast<char>(code_mask<element>));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512i v = _mm512_loadu_si512(p + i / shared * 64);
      w[i] = bytes_of_codes<element>(_mm512_and_si512(_mm512_srli_epi16(v, i % shared * bits), mask));
    }
    p += step_bytes * bits / 8;
  }
  static constexpr int64_t line_tiles = 512 / bits;
  void fetch(int64_t at) const {
    prefetch(p + at * bits / 8);
  }
  // A few shifts and masks a step, beside the 24 products of a block, and no stores for later blocks to wait for.
  static constexpr bool cheap(int64_t rows) {
    return info_of(element).codes_are == Codes::offset && rows <= 16;
  }
};

// Tiles one after the other, where a byte does not hold a whole number of codes.
template <PackedElement element>
struct StreamCodes : Unpacking<StreamCodes<element>> {
  static constexpr int bits = info_of(element).bits;
  explicit StreamCodes(const PackedPanel& panel) : p(panel.values) {}
  const uint8_t* p;

  void step(__m512i w[4]) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i, p += 8 * bits)
      w[i] = bytes_of_codes<element>(codes_of_stream<element>(_mm512_maskz_loadu_epi8((1ull << 8 * bits) - 1, p)));
  }
  static constexpr int64_t line_tiles = 128;
  void fetch(int64_t at) const {
    prefetch(p + at * bits / 8);
  }
};

// The kept elements of a tile in a stream of their own, from a new byte on.
template <PackedElement element>
struct SparseCodes : Unpacking<SparseCodes<element>> {
  static constexpr int bits = info_of(element).bits;
  explicit SparseCodes(const PackedPanel& panel) : p(panel.values), masks(static_cast<const uint64_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint64_t* masks;

  __m512i codes() const {
    if constexpr (bits != 4) return codes_of_stream<element>(_mm512_loadu_si512(p));
    const __m512i v = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_and_si512(_mm512_or_si512(v, _mm512_slli_epi16(v, 4)), _mm512_set1_epi8(15));
  }
  void step(__m512i w[4]) {
    const __m512i zero = _mm512_set1_epi8(static_cast<char>(zero_byte<element>));
    for (int i = 0; i < 4; ++i) {
      w[i] = zero;
      expand_bytes(w[i], load_mask(masks + i), bytes_of_codes<element>(codes()));
      p += (_mm_popcnt_u64(masks[i]) * bits + 7) >> 3;
    }
    masks += 4;
  }
  static constexpr int64_t line_tiles = bits == 2 ? 512 : 256;  // as if half were pruned
  void fetch(int64_t at) const {
    prefetch(p + at * bits / 16);
    if (at % 512 == 0) prefetch(reinterpret_cast<const uint8_t*>(masks) + (at >> 3));
  }
};

#elif !defined(__AVX2__)

// n % 32 == 0.
template <PackedElement element>
inline void bytes_of_codes(uint8_t* codes, int64_t n) {
  if constexpr (info_of(element).codes_are == Codes::offset) return;
#if defined(HONE_NEON)
  const uint8x16_t bytes = vld1q_u8(code_bytes<element>.of);
  for (int64_t i = 0; i < n; i += 16) vst1q_u8(codes + i, vqtbl1q_u8(bytes, vld1q_u8(codes + i)));
#else
  for (int64_t i = 0; i < n; ++i) codes[i] = code_bytes<element>.of[codes[i]];
#endif
}

#if defined(HONE_NEON)
// Where the codes of a stream lie: eight of them in as many bytes as one has bits. Each is cut out of two neighbouring
// bytes.
struct StreamPlaces {
  alignas(16) uint8_t bytes[16];
  alignas(16) int16_t shifts[8];
};
template <int Bits>
inline constexpr StreamPlaces stream_places = [] {
  StreamPlaces places{};
  for (int i = 0; i < 8; ++i) {
    places.bytes[2 * i] = static_cast<uint8_t>(i * Bits / 8);
    places.bytes[2 * i + 1] = static_cast<uint8_t>(i * Bits / 8 + 1);
    places.shifts[i] = static_cast<int16_t>(-(i * Bits % 8));
  }
  return places;
}();
#endif

// 64 codes from a stream.
template <PackedElement element>
inline void codes_of_stream(const uint8_t* p, uint8_t* out) {
  constexpr int bits = info_of(element).bits;
  for (int i = 0; i < 64; i += 8, p += bits, out += 8) {
    uint64_t v = 0;
    __builtin_memcpy(&v, p, bits);
#if defined(HONE_NEON)
    const uint8x16_t spread = vqtbl1q_u8(vreinterpretq_u8_u64(vdupq_n_u64(v)), vld1q_u8(stream_places<bits>.bytes));
    const uint16x8_t cut = vshlq_u16(vreinterpretq_u16_u8(spread), vld1q_s16(stream_places<bits>.shifts));
    vst1_u8(out, vand_u8(vmovn_u16(cut), vdup_n_u8(code_mask<element>)));
#else
    for (int k = 0; k < 8; ++k) out[k] = static_cast<uint8_t>(v >> k * bits) & code_mask<element>;
#endif
  }
}

template <PackedElement element>
struct SharedCodes : Unpacking<SharedCodes<element>> {
  static constexpr int bits = info_of(element).bits, shared = 8 / bits;
  explicit SharedCodes(const PackedPanel& panel) : p(panel.values) {}
  const uint8_t* p;

  void step(uint8_t* out) {
    const uint8_t* from = p;  // which no byte written may be, as far as the compiler knows
    p += step_bytes * bits / 8;
    for (int block = 0; block < 4; block += shared, from += 64)
      for (int t = 0; t < shared; ++t, out += 64)
        for (int i = 0; i < 64; ++i) out[i] = static_cast<uint8_t>(from[i] >> t * bits) & code_mask<element>;
    bytes_of_codes<element>(out - step_bytes, step_bytes);
  }
};

template <PackedElement element>
struct StreamCodes : Unpacking<StreamCodes<element>> {
  static constexpr int bits = info_of(element).bits;
  explicit StreamCodes(const PackedPanel& panel) : p(panel.values) {}
  const uint8_t* p;

  void step(uint8_t* out) {
    for (int i = 0; i < 4; ++i, p += 8 * bits) codes_of_stream<element>(p, out + 64 * i);
    bytes_of_codes<element>(out, step_bytes);
  }
};

template <PackedElement element>
struct SparseCodes : Unpacking<SparseCodes<element>> {
  static constexpr int bits = info_of(element).bits;
  explicit SparseCodes(const PackedPanel& panel) : p(panel.values), masks(static_cast<const uint64_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint64_t* masks;

  void step(uint8_t* out) {
    uint8_t codes[72] = {};
    for (int i = 0; i < 4; ++i, ++masks) {
      codes_of_stream<element>(p, codes);
      bytes_of_codes<element>(codes, 64);
      const uint8_t* next = codes;
      for (int shift = 0; shift < 64; shift += 8, out += 8) {
        const unsigned mask = static_cast<unsigned>(*masks >> shift) & 255u;
        expand_bytes(next, mask, zero_byte<element>, out);
        next += __builtin_popcount(mask);
      }
      p += (__builtin_popcountll(*masks) * bits + 7) >> 3;
    }
  }
};

#endif

// How an element of less than 8 bits lies in either layout.
template <PackedElement element>
struct CodeSources;
template <PackedElement element>
requires(8 % info_of(element).bits == 0) struct CodeSources<element> {
  using Panels = SharedCodes<element>;
  using Bitmask = SparseCodes<element>;
};
template <PackedElement element>
requires(8 % info_of(element).bits != 0) struct CodeSources<element> {
  using Panels = StreamCodes<element>;
  using Bitmask = SparseCodes<element>;
};

}  // namespace hone::kernels::HONE_ISA
