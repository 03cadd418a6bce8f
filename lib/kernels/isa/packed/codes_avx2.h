// Sources of elements of less than 8 bits with AVX2. Codes come out of bytes by shuffles, shifts and masks, 32 at a
// time: spreading bits by `pdep` takes more operations, and is microcode on the first Zen processors.
#pragma once

#include "kernels/isa/packed/bitmask_avx2.h"
#include "kernels/isa/packed/code_bytes.h"

namespace hone::kernels::HONE_ISA {

template <PackedElement element>
inline __m256i bytes_of_codes(__m256i codes) {
  if constexpr (info_of(element).codes_are == Codes::offset) return codes;  // they are the bytes
  return _mm256_shuffle_epi8(_mm256_load_si256(reinterpret_cast<const __m256i*>(code_bytes<element>.of)), codes);
}

inline void store_bytes(__m256i v, uint8_t* out) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), v);
}

// Where codes of 3 bits lie: each in two bytes of a 16-bit lane, whose upper bits they become by a product. 16 codes a
// register, so that packing two of them puts 32 in order; `begin` is the byte where those start.
struct GroupPlaces {
  alignas(32) uint8_t bytes[2][32];
  alignas(32) uint16_t factors[16];
};
template <int begin>
inline constexpr GroupPlaces stream_places = [] {
  GroupPlaces places{};
  for (int i = 0; i < 16; ++i) {
    for (int r = 0; r < 2; ++r) {
      const int bit = 3 * (i / 8 * 16 + r * 8 + i % 8);
      places.bytes[r][2 * i] = static_cast<uint8_t>(begin + bit / 8);
      places.bytes[r][2 * i + 1] = static_cast<uint8_t>(begin + bit / 8 + 1);
    }
    places.factors[i] = static_cast<uint16_t>(1 << (13 - i * 3 % 8));
  }
  return places;
}();

// 32 codes of `bits` from a stream. Those of 3 bits start at byte `begin`, and 16 are read.
template <int bits, int begin = 0>
inline __attribute__((always_inline)) __m256i codes_of_stream(const uint8_t* p) {
  const auto* at = reinterpret_cast<const __m128i*>(p);
  if constexpr (bits == 4) {
    const __m256i v = _mm256_cvtepu8_epi16(_mm_loadu_si128(at));
    return _mm256_and_si256(_mm256_or_si256(v, _mm256_slli_epi16(v, 4)), _mm256_set1_epi8(15));
  } else if constexpr (bits == 2) {
    __m256i v = _mm256_cvtepu8_epi32(_mm_loadl_epi64(at));
    v = _mm256_and_si256(_mm256_or_si256(v, _mm256_slli_epi32(v, 12)), _mm256_set1_epi32(0x000f000f));
    return _mm256_and_si256(_mm256_or_si256(v, _mm256_slli_epi32(v, 6)), _mm256_set1_epi8(3));
  } else {
    static_assert(bits == 3, "codes of 5 to 7 bits bring their own table");
    const GroupPlaces& places = stream_places<begin>;
    const __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128(at));
    const __m256i factors = _mm256_load_si256(reinterpret_cast<const __m256i*>(places.factors));
    const auto part = [&](int r) {
      const __m256i spread =
          _mm256_shuffle_epi8(v, _mm256_load_si256(reinterpret_cast<const __m256i*>(places.bytes[r])));
      return _mm256_srli_epi16(_mm256_mullo_epi16(spread, factors), 13);
    };
    return _mm256_packus_epi16(part(0), part(1));
  }
}

// Tiles whose elements share bytes: 2 of 4 bits, 4 of 2 bits.
template <PackedElement element>
struct SharedVectors : Unpacking<SharedVectors<element>> {
  static constexpr int bits = info_of(element).bits, shared = 8 / bits;
  explicit SharedVectors(const PackedPanel& panel) : p(panel.values) {}
  const uint8_t* p;

  const uint8_t* tiles(int64_t count, uint8_t* scratch) {
    const __m256i mask = _mm256_set1_epi8(static_cast<char>(code_mask<element>));
    const uint8_t* from = p;
    uint8_t* out = scratch;
    for (int64_t block = 0; block < count * 4 / shared; ++block, from += 64, out += 64 * shared)
#pragma GCC unroll 2
      for (int half = 0; half < 64; half += 32) {
        const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + half));
#pragma GCC unroll 4
        for (int t = 0; t < shared; ++t)
          store_bytes(bytes_of_codes<element>(_mm256_and_si256(_mm256_srli_epi16(v, t * bits), mask)),
                      out + 64 * t + half);
      }
    p = from;
    return scratch;
  }
};

// Tiles one after the other, where a byte does not hold a whole number of codes. Nothing behind them is read.
template <PackedElement element>
struct StreamVectors : Unpacking<StreamVectors<element>> {
  static constexpr int bits = info_of(element).bits,
                       last = 8 * bits - 16;  // bytes of a tile that the second load skips
  explicit StreamVectors(const PackedPanel& panel) : p(panel.values) {}
  const uint8_t* p;

  const uint8_t* tiles(int64_t count, uint8_t* scratch) {
    const uint8_t* from = p;
    uint8_t* out = scratch;
    for (int64_t i = 0; i < 4 * count; ++i, from += 8 * bits, out += 64) {
      store_bytes(bytes_of_codes<element>(codes_of_stream<bits>(from)), out);
      store_bytes(bytes_of_codes<element>(codes_of_stream<bits, 4 * bits - last>(from + last)), out + 32);
    }
    p = from;
    return scratch;
  }
};

// The kept elements of a tile in a stream of their own, from a new byte on.
template <PackedElement element>
struct SparseVectors : Unpacking<SparseVectors<element>> {
  static constexpr int bits = info_of(element).bits;
  explicit SparseVectors(const PackedPanel& panel)
      : p(panel.values), masks(static_cast<const uint64_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint64_t* masks;

  const uint8_t* tiles(int64_t count, uint8_t* scratch) {
    alignas(64) uint8_t packed[steps_at_once * step_bytes];
    const __m256i zero = _mm256_set1_epi8(static_cast<char>(zero_byte<element>));
    const uint8_t* from = p;
    const uint64_t* mask = masks;
    uint8_t* out = scratch;
    for (int64_t n = 0; n < count; n += steps_at_once) {
      const int64_t steps = count - n < steps_at_once ? count - n : steps_at_once;
      // As many codes of each tile as there may be, which asks no branch.
      uint8_t* to = packed;
      for (int64_t i = 0; i < 4 * steps; ++i, to += 64) {
        store_bytes(bytes_of_codes<element>(codes_of_stream<bits>(from)), to);
        store_bytes(bytes_of_codes<element>(codes_of_stream<bits>(from + 4 * bits)), to + 32);
        from += (_mm_popcnt_u64(mask[i]) * bits + 7) >> 3;
      }
      const uint8_t* next = packed;
      for (int64_t i = 0; i < 2 * steps; ++i, mask += 2, next += 128, out += 128) {
        const __m256i two = load_masks(mask);
        expand_bytes<0>(next, two, mask[0], zero, out);
        expand_bytes<1>(next + 64, two, mask[1], zero, out + 64);
      }
    }
    p = from;
    masks = mask;
    return scratch;
  }
};

template <PackedElement element>
using SharedCodes = SharedVectors<element>;
template <PackedElement element>
using StreamCodes = StreamVectors<element>;
template <PackedElement element>
using SparseCodes = SparseVectors<element>;

}  // namespace hone::kernels::HONE_ISA
