// Packed panels to bf16 panels, for products with many rows.
#pragma once

#include "kernels/isa/float_bits.h"
#include "kernels/isa/packed/source.h"

namespace hone::kernels::HONE_ISA::expansion {

// To nearest, ties to even, left in the upper half.
inline uint32_t rounded(float x) {
  const uint32_t u = bits_of(x);
  return (u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u;
}

inline void clear_pairs(int64_t from, int64_t pairs, bf16* out) {
  for (int64_t i = from * 128; i < pairs * 128; ++i) out[i].bits = 0;
}

inline void scale_words(const uint8_t* tiles, int64_t steps, const bf16* scales, uint8_t* out) {
  for (int64_t n = 0; n < steps; ++n, tiles += step_bytes, out += step_bytes)
#pragma omp simd
    for (int r = 0; r < 64; ++r) {
      uint32_t w;
      __builtin_memcpy(&w, tiles + 4 * r, 4);
      const float scale = as_float(scales[r]), even = as_float(w << 16), odd = as_float(w & 0xffff0000u);
      const uint32_t lane = rounded(even * scale) >> 16 | rounded(odd * scale);
      __builtin_memcpy(out + 4 * r, &lane, 4);
    }
}

// A 32-bit lane holds 4 columns of a row; each two become a lane of the result.
template <class Source, int Zero>
void integers(const PackedPanel& panel, int64_t pairs, bf16* out, uint8_t* scratch) {
  Source source(panel);
  const bf16* scales = panel.scales;
  for (int64_t begin = 0; begin < panel.steps; begin += panel.segment_steps, scales += panel.scale_step) {
    const int64_t left = panel.steps - begin, steps = left < panel.segment_steps ? left : panel.segment_steps;
    const uint8_t* tiles = source.tiles(steps, scratch);
    float scale[64];
    for (int r = 0; r < 64; ++r) scale[r] = as_float(scales[r]);
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

// Lanes stay as they are, but for the scales.
template <class Source, bool scaled>
void words(const PackedPanel& panel, int64_t pairs, bf16* out, uint8_t* scratch) {
  const int64_t chunk = scaled_chunk(panel);
  Source source(panel);
  for (int64_t begin = 0; begin < panel.steps; begin += chunk) {
    const int64_t left = panel.steps - begin, steps = left < chunk ? left : chunk;
    const uint8_t* tiles = source.tiles(steps, scratch);
    auto* to = reinterpret_cast<uint8_t*>(out + begin * 128);
    if constexpr (scaled) {
      scale_words(tiles, steps, panel.scales + begin / panel.segment_steps * panel.scale_step, to);
    } else {
      __builtin_memcpy(to, tiles, static_cast<size_t>(steps * step_bytes));
    }
  }
  clear_pairs(panel.steps, pairs, out);
}

}  // namespace hone::kernels::HONE_ISA::expansion
