// Making packed arrays from plain ones, reading single elements back, and checking masks against offsets. Plain C++:
// the order that packed.h describes, element by element.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cassert>
#include <cstring>

#include "kernels/bits.h"
#include "kernels/packed/nearest.h"
#include "kernels/packed/packed.h"
#include "kernels/parallel.h"

namespace hone::kernels {
namespace {

uint64_t mask_at(const PackedShape& s, const void* masks, int64_t tile) {
  if (s.mask_bytes == 8) return static_cast<const uint64_t*>(masks)[tile];
  return static_cast<const uint32_t*>(masks)[tile];
}

// Of the kept elements of a tile.
int64_t value_bytes(PackedElement e, uint64_t mask) {
  return (std::popcount(mask) * int64_t{info_of(e).bits} + 7) / 8;
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

// Code i of a sequence of codes.
unsigned read_code(int bits, const uint8_t* codes, int64_t i) {
  const uint8_t* at = codes + i * bits / 8;
  const int shift = static_cast<int>(i * bits % 8);
  unsigned window = *at;
  for (int n = 8; n < shift + bits; n += 8) window |= static_cast<unsigned>(*++at) << n;
  return window >> shift & ((1u << bits) - 1);
}

void write_code(int bits, uint8_t* codes, int64_t i, unsigned code) {
  uint8_t* at = codes + i * bits / 8;
  const int shift = static_cast<int>(i * bits % 8);
  unsigned window = code << shift, replaced = ((1u << bits) - 1) << shift;
  for (; replaced; window >>= 8, replaced >>= 8, ++at) *at = static_cast<uint8_t>((*at & ~replaced) | (window & 255u));
}

// Where element `lane` of tile `sub` of a step lies in the layout `panels`, as an index for read_code from the step's
// start. Tiles whose elements share bytes lie in one another: byte b has element b of each. Others follow each other.
int64_t dense_index(int64_t shared, int64_t sub, int64_t lane, int64_t k) {
  return (sub & -shared) * tile_rows * k + lane * shared + (sub & (shared - 1));
}

// How many tiles that is: 2 of 4 bits, 4 of 2 bits, 1 where a byte does not hold a whole number of codes.
int64_t tiles_sharing(int bits) {
  return bits < 8 && 8 % bits == 0 ? 8 / bits : 1;
}

// The codes of elements given as such, of 16 bits, or as int8_t integers.
class SourceCodes {
 public:
  SourceCodes(const PackedMatrix& w, const void* source) : cols_(w.shape.cols) {
    const ElementInfo& info = info_of(w.element);
    if (info.bits > 8) {
      given_ = static_cast<const uint16_t*>(source);
      return;
    }
    integers_ = static_cast<const int8_t*>(source);
    for (int q = -128; q < 128; ++q) codes_[q + 128] = static_cast<uint8_t>(std::max(info.code_of(q), 0));
  }
  unsigned at(int64_t r, int64_t c) const {
    const int64_t i = r * cols_ + c;
    return given_ ? given_[i] : codes_[integers_[i] + 128];
  }

 private:
  int64_t cols_;
  const uint16_t* given_ = nullptr;
  const int8_t* integers_ = nullptr;
  uint8_t codes_[256] = {};
};

void fill_panel(const PackedMatrix& w, int64_t panel, const SourceCodes& source, uint8_t* out) {
  const PackedShape& s = w.shape;
  const ElementInfo& info = info_of(w.element);
  const int64_t bytes = s.panel_bytes / s.steps, shared = tiles_sharing(info.bits);
  for (int64_t i = 0; i < panel_rows * s.lane; ++i) write_code(info.bits, out, i, static_cast<unsigned>(info.zero));
  for (int64_t step = 1; step < s.steps; ++step) std::memcpy(out + step * bytes, out, static_cast<size_t>(bytes));
  for (int64_t tile = panel * s.steps * 4; tile < (panel + 1) * s.steps * 4; ++tile) {
    uint8_t* at = out + tile / 4 % s.steps * bytes;
    for_tile(s, tile, [&](int64_t lane, int64_t r, int64_t c) {
      write_code(info.bits, at, dense_index(shared, tile % 4, lane, s.lane), source.at(r, c));
    });
  }
}

void fill_bitmask(const PackedMatrix& w, int64_t panel, const SourceCodes& source, uint8_t* out) {
  const PackedShape& s = w.shape;
  for (int64_t tile = panel * s.steps * 4; tile < (panel + 1) * s.steps * 4; ++tile) {
    const uint64_t mask = mask_at(s, w.masks, tile);
    int64_t next = 0;
    for_tile(s, tile, [&](int64_t lane, int64_t r, int64_t c) {
      if (mask >> lane & 1) write_code(info_of(w.element).bits, out, next++, source.at(r, c));
    });
    out += value_bytes(w.element, mask);
  }
}

// Of each element of up to 8 bits, the numbers of its codes.
using CodeNumbers = std::array<float, 256>;
const CodeNumbers& numbers_of(PackedElement element) {
  static const std::array<CodeNumbers, element_count> all = [] {
    std::array<CodeNumbers, element_count> numbers{};
    for (const PackedElement e : all_elements) {
      const ElementInfo& info = info_of(e);
      for (int code = 0; info.bits <= 8 && code < info.codes(); ++code)
        numbers[static_cast<size_t>(e)][static_cast<size_t>(code)] = info.number_of(info.integer_of(code));
    }
    return numbers;
  }();
  return all[static_cast<size_t>(element)];
}

float value_of(const PackedMatrix& w, const CodeNumbers& numbers, int64_t r, int64_t c, unsigned code) {
  const ElementInfo& info = info_of(w.element);
  const float number = info.bits > 8 ? to_float(bf16{static_cast<uint16_t>(code)}) : numbers[code];
  if (!info.scaled) return number;
  const PackedShape& s = w.shape;
  const int64_t group = s.group ? c / s.group : 0;
  const float scale = to_float(w.scales[(r / panel_rows * s.groups + group) * panel_rows + r % panel_rows]);
  return number * scale;
}

// Calls f(column, code) for each stored element of row r. In a bitmask this walks the masks of the whole panel.
template <class F>
void for_row(const PackedMatrix& w, int64_t r, F&& f) {
  const PackedShape& s = w.shape;
  const int64_t panel = r / panel_rows, sub = r % panel_rows / tile_rows, lane = r % tile_rows * s.lane;
  const int bits = info_of(w.element).bits;
  const auto* at = static_cast<const uint8_t*>(w.values);
  if (w.layout == PackedLayout::panels) {
    at += panel * s.panel_bytes;
    const int64_t bytes = s.panel_bytes / s.steps, shared = tiles_sharing(bits);
    for (int64_t c = 0; c < s.cols; ++c)
      f(c, read_code(bits, at + c / s.lane * bytes, dense_index(shared, sub, lane + c % s.lane, s.lane)));
    return;
  }
  at += w.offsets[panel];
  for (int64_t step = 0; step < s.steps; ++step)
    for (int64_t i = 0; i < 4; ++i) {
      const uint64_t mask = mask_at(s, w.masks, (panel * s.steps + step) * 4 + i);
      if (i == sub)
        for (int64_t j = 0; j < s.lane; ++j) {
          const uint64_t bit = uint64_t{1} << (lane + j);
          if (mask & bit) f(step * s.lane + j, read_code(bits, at, std::popcount(mask & (bit - 1))));
        }
      at += value_bytes(w.element, mask);
    }
}

}  // namespace

void packed_masks(const PackedShape& s, const uint8_t* bits, void* masks) {
  const int64_t row_bytes = bit_row_bytes(s.cols);
  parallel_for(s.panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin * s.steps * 4; tile < end * s.steps * 4; ++tile) {
      uint64_t mask = 0;
      for_tile(s, tile, [&](int64_t lane, int64_t r, int64_t c) {
        mask |= static_cast<uint64_t>(bit_at(bits + r * row_bytes, c)) << lane;
      });
      if (s.mask_bytes == 8) {
        static_cast<uint64_t*>(masks)[tile] = mask;
      } else {
        static_cast<uint32_t*>(masks)[tile] = static_cast<uint32_t>(mask);
      }
    }
  });
}

void packed_mask_bits(const PackedShape& s, const void* masks, uint8_t* bits) {
  const int64_t row_bytes = bit_row_bytes(s.cols);
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

void packed_fill(const PackedMatrix& w, const void* elements_at, void* values) {
  const SourceCodes source(w, elements_at);
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
  const CodeNumbers& numbers = numbers_of(w.element);
  parallel_for(out.rows, 4, [&](int64_t begin, int64_t end) {
    with_float_type(out.dtype, [&]<class T>(T*) {
      for (int64_t i = begin; i < end; ++i) {
        T* to = out.row<T>(i);
        const int64_t r = ids[static_cast<size_t>(i)];
        assert(r >= 0 && r < w.shape.rows);
        if (w.layout == PackedLayout::bitmask) std::fill_n(to, out.cols, T{});
        for_row(w, r, [&](int64_t c, unsigned code) {
          const float value = value_of(w, numbers, r, c, code);
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

void nearest_numbers(PackedElement element, std::span<const float> from, std::span<float> to) {
  assert(!info_of(element).scaled && from.size() == to.size());
  const bool wide = info_of(element).bits > 8;
  const ElementNumbers numbers(wide ? element_named("int8") : element);
  parallel_for(static_cast<int64_t>(from.size()), 1 << 16, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      to[i] = wide ? to_float(to_bf16(from[i])) : numbers[numbers.nearest(from[i])];
  });
}

void nearest_codes(PackedElement element, std::span<const float> from, void* to) {
  assert(!info_of(element).scaled);
  const bool wide = info_of(element).bits > 8;
  const ElementNumbers numbers(wide ? element_named("int8") : element);
  parallel_for(static_cast<int64_t>(from.size()), 1 << 16, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      if (wide)
        static_cast<bf16*>(to)[i] = to_bf16(from[i]);
      else
        static_cast<int8_t*>(to)[i] = static_cast<int8_t>(numbers.nearest(from[i]));
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

namespace {

// Codes other than that of 0 among `bytes` bytes full of codes.
int64_t count_nonzeros(const ElementInfo& info, const uint8_t* from, int64_t bytes) {
  const auto zero = static_cast<unsigned>(info.zero), rest = ~info.sign();
  int64_t n = 0;
  if (info.bits == 16) {
    for (int64_t i = 0; i < bytes; i += 2) n += (static_cast<unsigned>(from[i] | from[i + 1] << 8) & rest) != zero;
  } else if (info.bits == 8) {
    for (int64_t i = 0; i < bytes; ++i) n += (from[i] & rest) != zero;
  } else if (8 % info.bits == 0) {
    uint8_t of_byte[256];
    for (int b = 0; b < 256; ++b) {
      const auto byte = static_cast<uint8_t>(b);
      of_byte[b] = 0;
      for (int i = 0; i < 8 / info.bits; ++i) of_byte[b] += read_code(info.bits, &byte, i) != zero;
    }
    for (int64_t i = 0; i < bytes; ++i) n += of_byte[from[i]];
  } else {
    for (int64_t i = 0; i < bytes * 8 / info.bits; ++i) n += read_code(info.bits, from, i) != zero;
  }
  return n;
}

}  // namespace

int64_t packed_nonzeros(const PackedMatrix& w) {
  const ElementInfo& info = info_of(w.element);
  std::atomic<int64_t> total{0};
  parallel_each(w.shape.panels, [&](int64_t p) {
    int64_t n = 0;
    const auto* values = static_cast<const uint8_t*>(w.values);
    const bool padded = (p + 1) * panel_rows > w.shape.rows || w.shape.steps * w.shape.lane != w.shape.cols;
    if (w.layout == PackedLayout::panels && !padded) {
      n = count_nonzeros(info, values + p * w.shape.panel_bytes, w.shape.panel_bytes);
    } else {
      const auto zero = static_cast<unsigned>(info.zero), sign = info.sign();
      for (int64_t r = p * panel_rows; r < std::min((p + 1) * panel_rows, w.shape.rows); ++r)
        for_row(w, r, [&](int64_t, unsigned code) { n += (code & ~sign) != zero; });
    }
    total += n;
  });
  return total;
}

}  // namespace hone::kernels
