// bf16: the numbers themselves.
#include "kernels/isa/packed/bitmask.h"
#include "kernels/isa/packed/set_element.h"

namespace hone::kernels::HONE_ISA {
namespace {

#if defined(__AVX512VBMI2__)
struct SparseWords : Unpacking<SparseWords> {
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
  static constexpr int64_t line_tiles = 128;  // as if half were pruned
  void fetch(int64_t at) const {
    prefetch(p + (at >> 1));
    if (at % 1024 == 0) prefetch(reinterpret_cast<const uint8_t*>(masks) + (at >> 4));
  }
};
#elif defined(__AVX2__)
struct SparseWords : Unpacking<SparseWords> {
  explicit SparseWords(const PackedPanel& panel) : p(panel.values), masks(static_cast<const uint32_t*>(panel.masks)) {}
  const uint8_t* p;
  const uint32_t* masks;

  const uint8_t* tiles(int64_t count, uint8_t* scratch) {
    const uint8_t* from = p;
    const uint32_t* mask = masks;
    uint8_t* out = scratch;
    for (int64_t i = 0; i < 4 * count; ++i, ++mask, out += 64) {
      expand_words(from, *mask, out);
      from += 2 * _mm_popcnt_u32(*mask);
    }
    p = from;
    masks = mask;
    return scratch;
  }
};
#else
struct SparseWords : Unpacking<SparseWords> {
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
};
#endif

}  // namespace

template <>
struct Sources<element_named("bf16")> {
  using Panels = Plain;
  using Bitmask = SparseWords;
};
template void set_element<element_named("bf16")>(PackedTable&);

}  // namespace hone::kernels::HONE_ISA
