// int8: bytes q + 128.
#include "kernels/isa/packed/bitmask.h"
#include "kernels/isa/packed/set_element.h"

namespace hone::kernels::HONE_ISA {
namespace {

#if defined(__AVX512VBMI2__)
// Pruned elements become 128, the byte of 0, by merging in the expansion.
struct SparseBytes : Unpacking<SparseBytes> {
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
  static constexpr int64_t line_tiles = 128;  // as if half were pruned
  void fetch(int64_t at) const {
    prefetch(p + (at >> 1));
    if (at % 512 == 0) prefetch(reinterpret_cast<const uint8_t*>(masks) + (at >> 3));
  }
};
#elif defined(__AVX2__)
struct SparseBytes : Unpacking<SparseBytes> {
  explicit SparseBytes(const PackedPanel& panel) : p(panel.values), masks(static_cast<const uint64_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint64_t* masks;

  const uint8_t* tiles(int64_t count, uint8_t* scratch) {
    const __m256i zero = _mm256_set1_epi8(-128);
    const uint8_t* from = p;
    const uint64_t* mask = masks;
    uint8_t* out = scratch;
#pragma GCC unroll 2
    for (int64_t i = 0; i < 2 * count; ++i, mask += 2, out += 128) {
      const __m256i two = load_masks(mask);
      expand_bytes<0>(from, two, mask[0], zero, out);
      from += _mm_popcnt_u64(mask[0]);
      expand_bytes<1>(from, two, mask[1], zero, out + 64);
      from += _mm_popcnt_u64(mask[1]);
    }
    p = from;
    masks = mask;
    return scratch;
  }
};
#else
struct SparseBytes : Unpacking<SparseBytes> {
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
};
#endif

}  // namespace

template <>
struct Sources<element_named("int8")> {
  using Panels = Plain;
  using Bitmask = SparseBytes;
};
template void set_element<element_named("int8")>(PackedTable&);

}  // namespace hone::kernels::HONE_ISA
