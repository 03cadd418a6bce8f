#include "kernels/tiles/emulation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "kernels/isa/tiles/product.h"

namespace hone::kernels::tiles {
namespace {

// A number of 32 bits as a term: one that is not normal is 0 of its sign.
double term(uint32_t bits) {
  return std::bit_cast<float>((bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits);
}

// To nearest even; what is then less than the least normal number becomes 0 of its sign. It is rounded as if there
// were smaller exponents first: far from them.
float rounded(double x) {
  if (!(std::abs(x) < 0x1p-120)) return static_cast<float>(x);
  const auto large = static_cast<float>(x * 0x1p64);
  return std::abs(large) < 0x1p-62f ? std::copysign(0.0f, large) : large * 0x1p-64f;
}

// In double the product of two bf16 is exact, and so is a sum with a third number of 24 bits but where the smaller one
// lies below the 28th bit of the larger: too far down to turn the second rounding.
float fused(uint32_t a, uint32_t b, float sum) {
  return rounded(term(a) * term(b) + static_cast<double>(sum));
}

float added(float x, float y) {
  return rounded(term(std::bit_cast<uint32_t>(x)) + term(std::bit_cast<uint32_t>(y)));
}

int32_t byte_of(uint32_t word, int i, bool is_signed) {
  const auto byte = static_cast<uint8_t>(word >> 8 * i);
  return is_signed ? static_cast<int8_t>(byte) : byte;
}

thread_local EmulatedTiles emulated;

}  // namespace

void EmulatedTiles::load_config(const TileConfig& config) {
  const auto all_zero = [](const auto& bytes, size_t first) {
    return std::all_of(std::begin(bytes) + first, std::end(bytes), [](auto byte) { return byte == 0; });
  };
  if (config.palette == 0) return release();
  if (config.palette != 1) throw internal_error("LDTILECFG: no palette {}", config.palette);
  if (config.start_row != 0) throw internal_error("LDTILECFG: start row {} is not emulated", config.start_row);
  if (!all_zero(config.reserved, 0) || !all_zero(config.row_bytes, count) || !all_zero(config.rows, count))
    throw internal_error("LDTILECFG: reserved bytes are not 0");
  for (int i = 0; i < count; ++i) {
    const int rows = config.rows[i], bytes = config.row_bytes[i];
    if (rows > side || bytes > 4 * side || (rows == 0) != (bytes == 0))
      throw internal_error("LDTILECFG: tile {} of {} rows of {} bytes", i, rows, bytes);
    if (bytes % 4 != 0) throw internal_error("LDTILECFG: tile {} of rows of {} bytes is of no use", i, bytes);
  }
  for (int i = 0; i < count; ++i) tiles_[static_cast<size_t>(i)] = {config.rows[i], config.row_bytes[i] / 4, {}};
  configured_ = true;
}

void EmulatedTiles::release() {
  tiles_ = {};
  configured_ = false;
}

const EmulatedTiles::Tile& EmulatedTiles::at(int tile) const {
  if (!configured_ || tile < 0 || tile >= count || tiles_[static_cast<size_t>(tile)].rows == 0)
    throw internal_error("tile {} is not configured", tile);
  return tiles_[static_cast<size_t>(tile)];
}

EmulatedTiles::Tile& EmulatedTiles::at(int tile) {
  return const_cast<Tile&>(std::as_const(*this).at(tile));
}

void EmulatedTiles::load(int tile, const void* from, int64_t stride) {
  Tile& t = at(tile);
  t.data = {};
  for (int64_t r = 0; r < t.rows; ++r)
    std::memcpy(t.data[static_cast<size_t>(r)].data(), static_cast<const char*>(from) + r * stride,
                static_cast<size_t>(4 * t.words));
}

void EmulatedTiles::store(int tile, void* to, int64_t stride) const {
  const Tile& t = at(tile);
  for (int64_t r = 0; r < t.rows; ++r)
    std::memcpy(static_cast<char*>(to) + r * stride, t.data[static_cast<size_t>(r)].data(),
                static_cast<size_t>(4 * t.words));
}

void EmulatedTiles::zero(int tile) {
  at(tile).data = {};
}

void EmulatedTiles::check_product(int c, int a, int b) const {
  if (c == a || c == b || a == b) throw internal_error("a product of tiles {}, {} and {}: one comes twice", c, a, b);
  const Tile &sums = at(c), &left = at(a), &right = at(b);
  if (sums.rows != left.rows || sums.words != right.words || left.words != right.rows)
    throw internal_error("a product of tiles {} x {} and {} x {} in one of {} x {}", left.rows, left.words, right.rows,
                         right.words, sums.rows, sums.words);
}

void EmulatedTiles::dot_halves(int c, int a, int b) {
  check_product(c, a, b);
  Tile& sums = at(c);
  const Tile &left = at(a), &right = at(b);
  const auto words = static_cast<size_t>(sums.words);
  for (size_t m = 0; m < static_cast<size_t>(sums.rows); ++m) {
    std::array<float, side> even = {}, odd = {};
    for (size_t k = 0; k < static_cast<size_t>(left.words); ++k)
      for (size_t n = 0; n < words; ++n) {
        const uint32_t x = left.data[m][k], y = right.data[k][n];
        even[n] = fused(x << 16, y << 16, even[n]);
        odd[n] = fused(x & 0xffff0000u, y & 0xffff0000u, odd[n]);
      }
    for (size_t n = 0; n < words; ++n) {
      const float sum = added(std::bit_cast<float>(sums.data[m][n]), added(even[n], odd[n]));
      sums.data[m][n] = std::bit_cast<uint32_t>(sum);
    }
  }
}

void EmulatedTiles::dot_bytes(int c, int a, int b, bool a_is_signed, bool b_is_signed) {
  check_product(c, a, b);
  Tile& sums = at(c);
  const Tile &left = at(a), &right = at(b);
  for (size_t m = 0; m < static_cast<size_t>(sums.rows); ++m)
    for (size_t k = 0; k < static_cast<size_t>(left.words); ++k)
      for (size_t n = 0; n < static_cast<size_t>(sums.words); ++n)
        for (int i = 0; i < 4; ++i)
          sums.data[m][n] += static_cast<uint32_t>(byte_of(left.data[m][k], i, a_is_signed) *
                                                   byte_of(right.data[k][n], i, b_is_signed));
}

const TileUnit& emulated_unit() {
  static constexpr TileUnit unit = {[](int64_t depth) { configure(emulated, depth); }, [] { emulated.release(); },
                                    [](const PanelProduct& p) { product(emulated, p); },
                                    [](const ByteSegment& s) { add_segment(emulated, s); },
                                    [](const uint32_t* panel, int64_t pairs, uint32_t* rows, int64_t row_words) {
                                      for (int64_t p = 0; p < pairs; ++p)
                                        for (int64_t r = 0; r < panel_rows; ++r)
                                          rows[r * row_words + p] = panel[p * panel_rows + r];
                                    }};
  return unit;
}

}  // namespace hone::kernels::tiles
