// Packed panels to bf16 panels, for products with many rows.
#include "kernels/isa/packed/functions.h"
#include "kernels/isa/packed/source.h"

namespace hone::kernels::HONE_ISA {
namespace {

inline uint32_t bits_of(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, 4);
  return u;
}

// To nearest, ties to even, left in the upper half.
inline uint32_t rounded(float x) {
  const uint32_t u = bits_of(x);
  return (u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u;
}

void clear_pairs(int64_t from, int64_t pairs, bf16* out) {
  for (int64_t i = from * 128; i < pairs * 128; ++i) out[i].bits = 0;
}

// A 32-bit lane holds 4 columns of a row; each two become a lane of the result.
template <class Source, int Zero>
void expand_integers(const PackedPanel& panel, int64_t pairs, bf16* out, uint8_t* scratch) {
  Source source(panel);
  const bf16* scales = panel.scales;
  for (int64_t begin = 0; begin < panel.steps; begin += panel.segment_steps, scales += panel.scale_step) {
    const int64_t left = panel.steps - begin, steps = left < panel.segment_steps ? left : panel.segment_steps;
    const uint8_t* tiles = source.tiles(steps, scratch);
    float scale[64];
    for (int r = 0; r < 64; ++r) {
      const uint32_t u = static_cast<uint32_t>(scales[r].bits) << 16;
      __builtin_memcpy(scale + r, &u, 4);
    }
    for (int64_t n = 0; n < steps; ++n) {
      const uint8_t* from = tiles + n * step_bytes;
      auto* to = reinterpret_cast<uint8_t*>(out + (begin + n) * 256);
#pragma omp simd
      for (int r = 0; r < 64; ++r) {
        uint32_t w;
        __builtin_memcpy(&w, from + 4 * r, 4);
        const float a = static_cast<float>(static_cast<int>(w & 255u) - Zero) * scale[r];
        const float b = static_cast<float>(static_cast<int>((w >> 8) & 255u) - Zero) * scale[r];
        const float c = static_cast<float>(static_cast<int>((w >> 16) & 255u) - Zero) * scale[r];
        const float d = static_cast<float>(static_cast<int>(w >> 24) - Zero) * scale[r];
        const uint32_t first = rounded(a) >> 16 | rounded(b), second = rounded(c) >> 16 | rounded(d);
        __builtin_memcpy(to + 4 * r, &first, 4);
        __builtin_memcpy(to + 256 + 4 * r, &second, 4);
      }
    }
  }
  clear_pairs(2 * panel.steps, pairs, out);
}

template <class Source>
void expand_words(const PackedPanel& panel, int64_t pairs, bf16* out, uint8_t* scratch) {
  constexpr int64_t chunk = 32;
  Source source(panel);
  for (int64_t begin = 0; begin < panel.steps; begin += chunk) {
    const int64_t left = panel.steps - begin, steps = left < chunk ? left : chunk;
    __builtin_memcpy(out + begin * 128, source.tiles(steps, scratch), static_cast<size_t>(steps * step_bytes));
  }
  clear_pairs(panel.steps, pairs, out);
}

}  // namespace

void set_expansions(PackedTable& table) {
  table.expand[0][0] = expand_words<Plain>;
  table.expand[0][1] = expand_integers<Plain, 128>;
  table.expand[0][2] = expand_integers<Nibbles, 8>;
  table.expand[1][0] = expand_words<SparseWords>;
  table.expand[1][1] = expand_integers<SparseBytes, 128>;
  table.expand[1][2] = expand_integers<SparseNibbles, 8>;
}

PackedTable packed_table() {
  PackedTable table{};
  set_integer_products(table);
  set_bf16_products(table);
  set_f32_products(table);
  set_expansions(table);
  set_rows(table);
  return table;
}

}  // namespace hone::kernels::HONE_ISA
