// Making packed arrays from plain ones, reading single elements back, and checking masks against offsets. Plain C++:
// the order that packed.h describes, element by element.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cassert>
#include <cstring>

#include "kernels/packed/packed.h"
#include "kernels/parallel.h"

namespace hone::kernels {
namespace {

constexpr int64_t tile_rows = 16;

int64_t zero_of(PackedElement e) {
  return e == PackedElement::int8 ? 128 : e == PackedElement::int4 ? 8 : 0;
}

uint64_t mask_at(const PackedShape& s, const void* masks, int64_t tile) {
  if (s.mask_bytes == 8) return static_cast<const uint64_t*>(masks)[tile];
  return static_cast<const uint32_t*>(masks)[tile];
}

int64_t value_bytes(PackedElement e, uint64_t mask) {
  const int64_t n = std::popcount(mask);
  return e == PackedElement::bf16 ? 2 * n : e == PackedElement::int8 ? n : (n + 1) / 2;
}

// Calls f(lane, row, column) for each element of a tile that lies inside the matrix.
template <class F>
void for_tile(const PackedShape& s, int64_t tile, F&& f) {
  const int64_t sub = tile % 4, step = tile / 4 % s.steps, panel = tile / 4 / s.steps;
  for (int64_t i = 0; i < tile_rows * s.lane; ++i) {
    const int64_t r = panel * panel_rows + sub * tile_rows + i / s.lane, c = step * s.lane + i % s.lane;
    if (r < s.rows && c < s.cols) f(i, r, c);
  }
}

// Element i of the tile's stored sequence: raw bits, integers with their offset.
unsigned read_element(PackedElement e, const uint8_t* values, int64_t i) {
  if (e == PackedElement::int8) return values[i];
  if (e == PackedElement::int4) return (values[i / 2] >> (4 * (i & 1))) & 15u;
  uint16_t bits;
  std::memcpy(&bits, values + 2 * i, 2);
  return bits;
}

void write_element(PackedElement e, uint8_t* values, int64_t i, unsigned bits) {
  if (e == PackedElement::int8) {
    values[i] = static_cast<uint8_t>(bits);
  } else if (e == PackedElement::int4) {
    values[i / 2] = static_cast<uint8_t>(values[i / 2] | bits << (4 * (i & 1)));
  } else {
    const auto half = static_cast<uint16_t>(bits);
    std::memcpy(values + 2 * i, &half, 2);
  }
}

// Where element `lane` of tile `sub` of a step lies in the layout `panels`, as an index for read_element from the
// step's start.
int64_t dense_index(PackedElement e, int64_t sub, int64_t lane, int64_t k) {
  if (e != PackedElement::int4) return sub * tile_rows * k + lane;
  return sub / 2 * 128 + lane * 2 + sub % 2;  // nibble `sub % 2` of byte `lane` of the pair's block
}

unsigned source_bits(PackedElement e, const PackedShape& s, const void* source, int64_t r, int64_t c) {
  if (e == PackedElement::bf16) return static_cast<const bf16*>(source)[r * s.cols + c].bits;
  return static_cast<unsigned>(static_cast<const int8_t*>(source)[r * s.cols + c] + zero_of(e));
}

void fill_panel(const PackedMatrix& w, int64_t panel, const void* source, uint8_t* out) {
  const PackedShape& s = w.shape;
  const auto zero = static_cast<unsigned>(zero_of(w.element));
  const int64_t bytes = s.panel_bytes / s.steps;
  std::memset(out, w.element == PackedElement::int4 ? static_cast<int>(zero * 17) : static_cast<int>(zero),
              static_cast<size_t>(s.panel_bytes));
  for (int64_t tile = panel * s.steps * 4; tile < (panel + 1) * s.steps * 4; ++tile) {
    uint8_t* at = out + tile / 4 % s.steps * bytes;
    for_tile(s, tile, [&](int64_t lane, int64_t r, int64_t c) {
      const unsigned bits = source_bits(w.element, s, source, r, c);
      const int64_t i = dense_index(w.element, tile % 4, lane, s.lane);
      if (w.element == PackedElement::int4) at[i / 2] &= static_cast<uint8_t>(i & 1 ? 0x0f : 0xf0);
      write_element(w.element, at, i, bits);
    });
  }
}

void fill_bitmask(const PackedMatrix& w, int64_t panel, const void* source, uint8_t* out) {
  const PackedShape& s = w.shape;
  for (int64_t tile = panel * s.steps * 4; tile < (panel + 1) * s.steps * 4; ++tile) {
    const uint64_t mask = mask_at(s, w.masks, tile);
    int64_t next = 0;
    for_tile(s, tile, [&](int64_t lane, int64_t r, int64_t c) {
      if (mask >> lane & 1) write_element(w.element, out, next++, source_bits(w.element, s, source, r, c));
    });
    out += value_bytes(w.element, mask);
  }
}

float value_of(const PackedMatrix& w, int64_t r, int64_t c, unsigned bits) {
  if (w.element == PackedElement::bf16) return to_float(bf16{static_cast<uint16_t>(bits)});
  const PackedShape& s = w.shape;
  const int64_t group = s.group ? c / s.group : 0;
  const float scale = to_float(w.scales[(r / panel_rows * s.groups + group) * panel_rows + r % panel_rows]);
  return static_cast<float>(static_cast<int64_t>(bits) - zero_of(w.element)) * scale;
}

// Calls f(column, raw bits) for each stored element of row r. In a bitmask this walks the masks of the whole panel.
template <class F>
void for_row(const PackedMatrix& w, int64_t r, F&& f) {
  const PackedShape& s = w.shape;
  const int64_t panel = r / panel_rows, sub = r % panel_rows / tile_rows, lane = r % tile_rows * s.lane;
  const auto* at = static_cast<const uint8_t*>(w.values);
  if (w.layout == PackedLayout::panels) {
    at += panel * s.panel_bytes;
    const int64_t bytes = s.panel_bytes / s.steps;
    for (int64_t c = 0; c < s.cols; ++c)
      f(c, read_element(w.element, at + c / s.lane * bytes, dense_index(w.element, sub, lane + c % s.lane, s.lane)));
    return;
  }
  at += w.offsets[panel];
  for (int64_t step = 0; step < s.steps; ++step)
    for (int64_t i = 0; i < 4; ++i) {
      const uint64_t mask = mask_at(s, w.masks, (panel * s.steps + step) * 4 + i);
      if (i == sub)
        for (int64_t j = 0; j < s.lane; ++j) {
          const uint64_t bit = uint64_t{1} << (lane + j);
          if (mask & bit) f(step * s.lane + j, read_element(w.element, at, std::popcount(mask & (bit - 1))));
        }
      at += value_bytes(w.element, mask);
    }
}

}  // namespace

void packed_masks(PackedElement, const PackedShape& s, const uint8_t* bits, void* masks) {
  const int64_t row_bytes = (s.cols + 7) / 8;
  parallel_for(s.panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin * s.steps * 4; tile < end * s.steps * 4; ++tile) {
      uint64_t mask = 0;
      for_tile(s, tile, [&](int64_t lane, int64_t r, int64_t c) {
        mask |= static_cast<uint64_t>(bits[r * row_bytes + c / 8] >> (c % 8) & 1) << lane;
      });
      if (s.mask_bytes == 8) {
        static_cast<uint64_t*>(masks)[tile] = mask;
      } else {
        static_cast<uint32_t*>(masks)[tile] = static_cast<uint32_t>(mask);
      }
    }
  });
}

void packed_mask_bits(PackedElement, const PackedShape& s, const void* masks, uint8_t* bits) {
  const int64_t row_bytes = (s.cols + 7) / 8;
  std::memset(bits, 0, static_cast<size_t>(s.rows * row_bytes));
  parallel_for(s.panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin * s.steps * 4; tile < end * s.steps * 4; ++tile) {
      const uint64_t mask = mask_at(s, masks, tile);
      for_tile(s, tile, [&](int64_t lane, int64_t r, int64_t c) {
        bits[r * row_bytes + c / 8] |= static_cast<uint8_t>((mask >> lane & 1) << (c % 8));
      });
    }
  });
}

bool packed_offsets(PackedElement e, const PackedShape& s, const void* masks, uint64_t* offsets) {
  parallel_for(s.panels, 16, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      int64_t bytes = 0;
      for (int64_t tile = p * s.steps * 4; tile < (p + 1) * s.steps * 4; ++tile)
        bytes += value_bytes(e, mask_at(s, masks, tile));
      offsets[p + 1] = static_cast<uint64_t>(bytes);
    }
  });
  offsets[0] = 0;
  for (int64_t p = 0; p < s.panels; ++p) offsets[p + 1] += offsets[p];
  for (int64_t p = 0; p < s.panels; ++p) {
    const bool last = p + 1 == s.panels && s.rows % panel_rows != 0;
    for (int64_t step = last ? 0 : s.cols / s.lane; step < s.steps; ++step)
      for (int64_t sub = 0; sub < 4; ++sub) {
        const int64_t tile = (p * s.steps + step) * 4 + sub;
        uint64_t inside = 0;
        for_tile(s, tile, [&](int64_t lane, int64_t, int64_t) { inside |= uint64_t{1} << lane; });
        if (mask_at(s, masks, tile) & ~inside) return false;
      }
  }
  return true;
}

void packed_fill(const PackedMatrix& w, const void* source, void* values) {
  auto* out = static_cast<uint8_t*>(values);
  if (w.layout == PackedLayout::bitmask) {
    std::memset(out, 0, w.offsets[w.shape.panels] + packed_slack);
    parallel_each(w.shape.panels, [&](int64_t p) { fill_bitmask(w, p, source, out + w.offsets[p]); });
  } else {
    parallel_each(w.shape.panels, [&](int64_t p) { fill_panel(w, p, source, out + p * w.shape.panel_bytes); });
  }
}

void packed_gather(const PackedMatrix& w, std::span<const int32_t> ids, View out) {
  assert(out.cols == w.shape.cols && out.rows == static_cast<int64_t>(ids.size()));
  parallel_for(out.rows, 4, [&](int64_t begin, int64_t end) {
    with_float_type(out.dtype, [&]<class T>(T*) {
      for (int64_t i = begin; i < end; ++i) {
        T* to = out.row<T>(i);
        const int64_t r = ids[static_cast<size_t>(i)];
        assert(r >= 0 && r < w.shape.rows);
        if (w.layout == PackedLayout::bitmask) std::fill_n(to, out.cols, T{});
        for_row(w, r, [&](int64_t c, unsigned bits) {
          const float value = value_of(w, r, c, bits);
          if constexpr (sizeof(T) == sizeof(float)) {
            to[c] = value;
          } else {
            to[c] = to_bf16(value);
          }
        });
      }
    });
  });
}

int64_t packed_kept(const PackedMatrix& w) {
  std::atomic<int64_t> total{0};
  parallel_each(w.shape.panels, [&](int64_t p) {
    int64_t n = 0;
    for (int64_t tile = p * w.shape.steps * 4; tile < (p + 1) * w.shape.steps * 4; ++tile)
      n += std::popcount(mask_at(w.shape, w.masks, tile));
    total += n;
  });
  return total;
}

int64_t packed_nonzeros(const PackedMatrix& w) {
  const auto zero = static_cast<unsigned>(zero_of(w.element));
  const unsigned sign = w.element == PackedElement::bf16 ? 0x8000u : 0u;  // -0 is zero
  std::atomic<int64_t> total{0};
  parallel_each(w.shape.panels, [&](int64_t p) {
    int64_t n = 0;
    for (int64_t r = p * panel_rows; r < std::min((p + 1) * panel_rows, w.shape.rows); ++r)
      for_row(w, r, [&](int64_t, unsigned bits) { n += (bits & ~sign) != zero; });
    total += n;
  });
  return total;
}

}  // namespace hone::kernels
