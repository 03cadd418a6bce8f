// The emulated tile instructions against values computed by hand from the manual's definitions.
#include "kernels/tiles/emulation.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"

using namespace hone;
using kernels::tiles::EmulatedTiles;
using kernels::tiles::TileConfig;

namespace {

constexpr uint32_t bits(float x) {
  return std::bit_cast<uint32_t>(x);
}

// Two bf16 that are neighbours in the contraction; each number is one that bf16 has.
uint32_t pair(float even, float odd) {
  CHECK((bits(even) & 0xffffu) == 0);
  CHECK((bits(odd) & 0xffffu) == 0);
  return bits(even) >> 16 | bits(odd);
}

uint32_t bytes(int a, int b, int c, int d) {
  const auto byte = [](int x) { return static_cast<uint32_t>(static_cast<uint8_t>(x)); };
  return byte(a) | byte(b) << 8 | byte(c) << 16 | byte(d) << 24;
}

// Tile 0 of rows x columns words, 1 of rows x depth, 2 of depth x columns.
TileConfig shapes(int rows, int depth, int columns) {
  TileConfig config;
  config.palette = 1;
  const auto set = [&](int tile, int tile_rows, int words) {
    config.rows[tile] = static_cast<uint8_t>(tile_rows);
    config.row_bytes[tile] = static_cast<uint16_t>(4 * words);
  };
  set(0, rows, columns);
  set(1, rows, depth);
  set(2, depth, columns);
  return config;
}

// One element: c + a[0] b[0] + a[1] b[1] + …, words of bf16 pairs.
float dot(float c, const std::vector<uint32_t>& a, const std::vector<uint32_t>& b) {
  EmulatedTiles t;
  t.load_config(shapes(1, static_cast<int>(a.size()), 1));
  t.load(0, &c, 4);
  t.load(1, a.data(), 0);
  t.load(2, b.data(), 4);
  t.dot_halves(0, 1, 2);
  t.store(0, &c, 4);
  return c;
}

uint32_t dot_bytes(uint32_t c, uint32_t a, uint32_t b, bool a_is_signed, bool b_is_signed) {
  EmulatedTiles t;
  t.load_config(shapes(1, 1, 1));
  t.load(0, &c, 4);
  t.load(1, &a, 4);
  t.load(2, &b, 4);
  t.dot_bytes(0, 1, 2, a_is_signed, b_is_signed);
  t.store(0, &c, 4);
  return c;
}

constexpr float least = std::numeric_limits<float>::min();  // normal: 2^-126
constexpr float infinity = std::numeric_limits<float>::infinity();

}  // namespace

TEST_CASE("tiles: a bf16 sum is rounded to nearest, ties to even, in one rounding with its product") {
  // 1 + 2^-24 lies between 1 and 1 + 2^-23, 1 + 3 * 2^-24 between odd and even.
  CHECK(dot(0, {pair(1, 0), pair(0x1p-12f, 0)}, {pair(1, 0), pair(0x1p-12f, 0)}) == 1);
  CHECK(dot(0, {pair(1, 0), pair(0x1.8p-12f, 0)}, {pair(1, 0), pair(0x1p-11f, 0)}) == 1 + 0x1p-22f);
  CHECK(dot(0, {pair(-1, 0), pair(0x1.8p-12f, 0)}, {pair(1, 0), pair(-0x1p-11f, 0)}) == -1 - 0x1p-22f);
  // Just above the tie, by a bit of the product that f32 does not have beside 1.
  CHECK(dot(0, {pair(1, 0), pair(0x1.02p-12f, 0)}, {pair(1, 0), pair(0x1p-12f, 0)}) == 1 + 0x1p-23f);
  // A product beyond f32's range that the sum brings back: 2^128 + 2^127 (-1).
  CHECK(dot(0, {pair(-0x1p127f, 0), pair(0x1p64f, 0)}, {pair(1, 0), pair(0x1p64f, 0)}) == 0x1p127f);
  CHECK(dot(0, {pair(0x1p64f, 0)}, {pair(0x1p64f, 0)}) == infinity);
}

TEST_CASE("tiles: even and odd columns are summed apart from 0, then added, then added to what was there") {
  const float tiny = 0x1p-24f;
  // Each half alone keeps what a running sum would lose: 1 + tiny is 1, but tiny + tiny is not.
  CHECK(dot(1, {pair(1, tiny)}, {pair(tiny, 1)}) == 1 + 2 * tiny);
  CHECK(dot(1, {pair(tiny, 0), pair(tiny, 0)}, {pair(1, 0), pair(1, 0)}) == 1 + 2 * tiny);
  CHECK(dot(0, {pair(1, 0), pair(tiny, 0), pair(tiny, 0)}, {pair(1, 0), pair(1, 0), pair(1, 0)}) == 1);
  CHECK(dot(0, {pair(1, tiny), pair(0, tiny)}, {pair(1, 1), pair(0, 1)}) == 1 + 2 * tiny);
  // In the order of the columns: tiny first is kept, and lost after 1.
  CHECK(dot(0, {pair(tiny, 0), pair(tiny, 0), pair(1, 0)}, {pair(1, 0), pair(1, 0), pair(1, 0)}) == 1 + 2 * tiny);
  // Two instructions each round their own sum.
  EmulatedTiles t;
  t.load_config(shapes(1, 1, 1));
  const uint32_t a = pair(1, 0), b = pair(tiny, 0);
  float c = 1;
  t.load(0, &c, 4);
  t.load(1, &a, 4);
  t.load(2, &b, 4);
  t.dot_halves(0, 1, 2);
  t.dot_halves(0, 1, 2);
  t.store(0, &c, 4);
  CHECK(c == 1);
}

TEST_CASE("tiles: numbers that are not normal count as 0 of their sign, as terms and as sums") {
  CHECK(bits(dot(0, {pair(least / 2, 0)}, {pair(0x1p60f, 0)})) == 0);
  CHECK(bits(dot(least / 2, {pair(0, 0)}, {pair(0, 0)})) == 0);
  CHECK(dot(least, {pair(0, 0)}, {pair(0, 0)}) == least);
  CHECK(bits(dot(0, {pair(0x1p-70f, 0)}, {pair(0x1p-70f, 0)})) == 0);
  CHECK(dot(0, {pair(0x1p-63f, 0)}, {pair(0x1p-63f, 0)}) == least);
  // -2^-127 becomes -0, which stays where all others are -0.
  CHECK(bits(dot(-0.0f, {pair(-0x1p-64f, -0x1p-64f)}, {pair(0x1p-63f, 0x1p-63f)})) == 0x80000000u);
  // A difference of normal numbers that is not normal.
  CHECK(bits(dot(0, {pair(1.5f * least, 0), pair(-least, 0)}, {pair(1, 0), pair(1, 0)})) == 0);
  // The product itself is not rounded: one of 2^-130 and a bit more, below f32's normal numbers, turns a sum.
  CHECK(dot(0, {pair(0x1p-106f, 0), pair(0x1p-65f, 0)}, {pair(1, 0), pair(0x1.02p-65f, 0)}) == 0x1p-106f + 0x1p-129f);
  // Rounding comes before the flush: what rounds up to the least normal number is one.
  CHECK(dot(0, {pair(least, 0), pair(-0x1p-80f, 0)}, {pair(1, 0), pair(0x1p-80f, 0)}) == least);
}

TEST_CASE("tiles: infinities and NaNs") {
  CHECK(dot(0, {pair(infinity, 0)}, {pair(-2, 0)}) == -infinity);
  CHECK(std::isnan(dot(0, {pair(infinity, 0)}, {pair(0, 0)})));
  CHECK(std::isnan(dot(0, {pair(infinity, 0)}, {pair(least / 2, 0)})));  // which counts as 0
  CHECK(std::isnan(dot(0, {pair(infinity, -infinity)}, {pair(1, 1)})));
  CHECK(std::isnan(dot(std::numeric_limits<float>::quiet_NaN(), {pair(1, 1)}, {pair(1, 1)})));
}

TEST_CASE("tiles: bytes of any sign, sums that wrap and do not saturate") {
  const uint32_t low = bytes(-128, -128, -128, -128), high = bytes(127, 127, 127, 127), all = bytes(-1, -1, -1, -1);
  CHECK(dot_bytes(0, bytes(1, 2, 3, 4), bytes(10, 20, 30, 40), true, true) == 300);
  CHECK(dot_bytes(7, bytes(-1, 2, -3, 4), bytes(1, 1, 1, -1), true, true) == static_cast<uint32_t>(7 - 6));
  CHECK(dot_bytes(0, low, low, true, true) == 4 * 128 * 128);
  CHECK(dot_bytes(0, all, all, true, true) == 4);
  CHECK(dot_bytes(0, all, all, true, false) == static_cast<uint32_t>(-4 * 255));
  CHECK(dot_bytes(0, low, all, true, false) == static_cast<uint32_t>(-4 * 128 * 255));
  CHECK(dot_bytes(0, all, low, false, true) == static_cast<uint32_t>(-4 * 128 * 255));
  CHECK(dot_bytes(0, all, all, false, false) == 4 * 255 * 255);  // no step saturates 16 bits
  CHECK(dot_bytes(0x7fffffff, high, high, true, true) == 0x7fffffffu + 4 * 127 * 127);
  CHECK(dot_bytes(0x80000000, high, low, true, true) == 0x80000000u - 4 * 127 * 128);
}

TEST_CASE("tiles: shapes leave out rows and columns, and strides may be anything") {
  EmulatedTiles t;
  TileConfig config = shapes(3, 2, 5);
  config.rows[7] = 16;
  config.row_bytes[7] = 64;
  t.load_config(config);
  std::vector<uint32_t> from(16 * 40), to(from.size(), 9);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<uint32_t>(i);
  t.load(0, from.data(), 4 * 7);
  t.store(0, to.data(), 4 * 6);
  for (size_t i = 0; i < to.size(); ++i)
    CHECK(to[i] == (i / 6 < 3 && i % 6 < 5 ? static_cast<uint32_t>(i / 6 * 7 + i % 6) : 9u));
  t.load(7, from.data() + 15 * 40, -4 * 40);  // upwards
  t.store(7, to.data(), 64);
  for (size_t i = 0; i < 256; ++i) CHECK(to[i] == (15 - i / 16) * 40 + i % 16);
  t.zero(7);
  t.store(7, to.data(), 64);
  for (size_t i = 0; i < 256; ++i) CHECK(to[i] == 0);
  t.load_config(config);  // and all tiles are 0
  t.store(0, to.data() + 300, 20);
  for (size_t i = 300; i < 315; ++i) CHECK(to[i] == 0);
}

TEST_CASE("tiles: a product takes each element of its rows and columns") {
  EmulatedTiles t;
  t.load_config(shapes(2, 3, 4));
  std::vector<uint32_t> a(2 * 3), b(3 * 4);
  std::vector<float> c(2 * 4, 100);
  for (size_t i = 0; i < a.size(); ++i) a[i] = pair(static_cast<float>(i), 1);
  for (size_t i = 0; i < b.size(); ++i) b[i] = pair(static_cast<float>(i), -2);
  t.load(0, c.data(), 16);
  t.load(1, a.data(), 12);
  t.load(2, b.data(), 16);
  t.dot_halves(0, 1, 2);
  t.store(0, c.data(), 16);
  for (size_t m = 0; m < 2; ++m)
    for (size_t n = 0; n < 4; ++n) {
      float expected = 100 - 6;
      for (size_t k = 0; k < 3; ++k) expected += static_cast<float>((m * 3 + k) * (k * 4 + n));
      CHECK(c[m * 4 + n] == expected);
    }
}

TEST_CASE("tiles: what the processor refuses is an error") {
  EmulatedTiles t;
  std::vector<uint32_t> memory(256);
  CHECK_THROWS_AS(t.zero(0), Error);  // not configured
  TileConfig config = shapes(3, 2, 5);
  t.load_config(config);
  CHECK_THROWS_AS(t.zero(3), Error);  // has no rows
  CHECK_THROWS_AS(t.zero(8), Error);
  CHECK_THROWS_AS(t.dot_halves(0, 1, 1), Error);
  CHECK_THROWS_AS(t.dot_halves(1, 0, 2), Error);  // shapes
  CHECK_THROWS_AS(t.dot_bytes(0, 2, 1, true, true), Error);
  const auto refused = [](const TileConfig& wrong) {
    EmulatedTiles unit;
    CHECK_THROWS_AS(unit.load_config(wrong), Error);
  };
  for (const auto change : {+[](TileConfig& c) { c.palette = 2; }, +[](TileConfig& c) { c.reserved[3] = 1; },
                            +[](TileConfig& c) { c.rows[1] = 17; }, +[](TileConfig& c) { c.row_bytes[1] = 68; },
                            +[](TileConfig& c) { c.rows[5] = 1; }, +[](TileConfig& c) { c.row_bytes[5] = 4; },
                            +[](TileConfig& c) { c.rows[8] = 1; }}) {
    TileConfig wrong = config;
    change(wrong);
    refused(wrong);
  }
  t.load_config(TileConfig());  // palette 0: released
  CHECK_THROWS_AS(t.load(0, memory.data(), 64), Error);
}
