// Products in tiles, over the emulation of the unit and, where the machine has one, over the unit.
#include "kernels/tiles/tiles.h"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/gemm/bf16.h"
#include "kernels/isa/gemm/table.h"
#include "kernels/rows/elementwise.h"
#include "kernels/tiles/emulation.h"
#include "lib/kernels/packed/packed_matrices.h"

using namespace hone;
using namespace hone::kernels;
using namespace hone::kernels::test;
using hone::test::at_every_isa;

namespace {

// The emulated unit, and the machine's where it has one.
void for_units(const std::function<void(const tiles::TileUnit&)>& f) {
  f(tiles::emulated_unit());
  if (isa() == Isa::amx && tiles::unit()) f(*tiles::unit());
}

// Small whole numbers: every sum is exact in f32, so results must be equal.
std::vector<bf16> whole_numbers(int64_t count, uint64_t seed) {
  Random random(seed, "tiles");
  std::vector<bf16> v(static_cast<size_t>(count));
  for (bf16& x : v) x = to_bf16(static_cast<float>(static_cast<int>(random.next() % 7) - 3));
  return v;
}

// a[rows][2 * pairs] with `gap` words behind each row, times a panel [pairs][64][2].
struct PanelCase {
  int64_t rows, pairs, gap;
  std::vector<bf16> a, panel;

  PanelCase(int64_t row_count, int64_t pair_count, int64_t gap_words)
      : rows(row_count),
        pairs(pair_count),
        gap(gap_words),
        a(whole_numbers(rows * 2 * (pairs + gap), 1)),
        panel(whole_numbers(pairs * 2 * panel_rows, 2)) {}

  float sum(int64_t row, int64_t column) const {
    float total = 0;
    for (int64_t k = 0; k < 2 * pairs; ++k)
      total += to_float(a[static_cast<size_t>(row * 2 * (pairs + gap) + k)]) *
               to_float(panel[static_cast<size_t>((k / 2 * panel_rows + column) * 2 + k % 2)]);
    return total;
  }
  PanelProduct product(void* c, int64_t c_stride, bool accumulate, bool half) const {
    return {reinterpret_cast<const char*>(a.data()),
            4 * (pairs + gap),
            4,
            rows,
            pairs,
            panel.data(),
            c,
            c_stride,
            accumulate,
            half};
  }
};

constexpr int64_t stride = panel_rows + 3;

}  // namespace

TEST_CASE("tile products of bf16: every number of rows and pairs, accumulated or not, and rounded to bf16") {
  for_units([](const tiles::TileUnit& unit) {
    const tiles::Region region(&unit, tiles::side);
    for (const int64_t rows : {1, 15, 16, 17, 31, 32, 33, 48, 50, 79})
      for (const int64_t pairs : {1, 15, 16, 17, 32, 40}) {
        CAPTURE(rows);
        CAPTURE(pairs);
        const PanelCase p(rows, pairs, rows % 2 * 5);
        for (const bool accumulate : {false, true}) {
          std::vector<float> c(static_cast<size_t>(rows * stride), 7.0f);
          unit.product(p.product(c.data(), stride, accumulate, false));
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t i = 0; i < stride; ++i)
              REQUIRE(c[static_cast<size_t>(r * stride + i)] ==
                      (i >= panel_rows ? 7.0f : p.sum(r, i) + (accumulate ? 7.0f : 0.0f)));
        }
        std::vector<bf16> half(static_cast<size_t>(rows * stride), to_bf16(7));
        unit.product(p.product(half.data(), stride, false, true));
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t i = 0; i < stride; ++i)
            REQUIRE(half[static_cast<size_t>(r * stride + i)].bits ==
                    to_bf16(i >= panel_rows ? 7.0f : p.sum(r, i)).bits);
      }
  });
}

TEST_CASE("tile products of bf16 depend on their row alone, and are right to rounding for any numbers") {
  for_units([](const tiles::TileUnit& unit) {
    const tiles::Region region(&unit, tiles::side);
    constexpr int64_t rows = 50, pairs = 77;
    const auto a = rounded(normal_numbers(rows * 2 * pairs, 1)), panel = rounded(normal_numbers(pairs * 128, 2));
    std::vector<float> all(rows * panel_rows), one(panel_rows);
    const PanelProduct whole{reinterpret_cast<const char*>(a.data()),
                             4 * pairs,
                             4,
                             rows,
                             pairs,
                             panel.data(),
                             all.data(),
                             panel_rows,
                             false,
                             false};
    unit.product(whole);
    for (int64_t r = 0; r < rows; ++r) {
      PanelProduct row = whole;
      row.a += r * row.a_row;
      row.rows = 1;
      row.c = one.data();
      unit.product(row);
      REQUIRE(std::memcmp(one.data(), all.data() + r * panel_rows, sizeof(float) * panel_rows) == 0);
      for (int64_t i = 0; i < panel_rows; ++i) {
        double sum = 0, size = 0;
        for (int64_t k = 0; k < 2 * pairs; ++k) {
          const double term = static_cast<double>(to_float(a[static_cast<size_t>(r * 2 * pairs + k)])) *
                              static_cast<double>(to_float(panel[static_cast<size_t>((k / 2 * 64 + i) * 2 + k % 2)]));
          sum += term;
          size += std::abs(term);
        }
        CHECK(std::abs(static_cast<double>(one[static_cast<size_t>(i)]) - sum) < 1e-6 * size);
      }
    }
  });
}

TEST_CASE("tile segments of bytes are exact, of any number of rows and steps") {
  for_units([](const tiles::TileUnit& unit) {
    for (const int64_t depth : {tiles::side / 2, tiles::side}) {
      const tiles::Region region(&unit, depth);
      for (const int64_t rows : {1, 16, 17, 32, 45, 64})
        for (const int64_t steps : {1, 7, 8, 16, 20, 32}) {
          Random random(static_cast<uint64_t>(rows * 64 + steps), "segment");
          const int64_t row_bytes = 4 * steps + rows % 3 * 16;
          std::vector<uint8_t> w(static_cast<size_t>(steps * 4 * panel_rows)), x(static_cast<size_t>(rows * row_bytes));
          for (auto* bytes : {&w, &x})
            for (uint8_t& byte : *bytes) byte = static_cast<uint8_t>(random.next());
          std::vector<int32_t> starts(static_cast<size_t>(rows));
          std::vector<float> x_scales(starts.size()), y(static_cast<size_t>(rows * panel_rows));
          std::vector<bf16> scales(panel_rows);
          for (int32_t& start : starts) start = static_cast<int32_t>(random.below(1 << 20)) - (1 << 19);
          for (float& scale : x_scales) scale = static_cast<float>(random.normal());
          for (bf16& scale : scales) scale = to_bf16(static_cast<float>(random.normal()));
          for (float& number : y) number = static_cast<float>(random.normal());
          const std::vector<float> before = y;
          unit.add_segment({depth, w.data(), steps, x.data(), row_bytes, rows, starts.data(), x_scales.data(),
                            scales.data(), y.data()});
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t i = 0; i < panel_rows; ++i) {
              int32_t sum = starts[static_cast<size_t>(r)];
              for (int64_t k = 0; k < 4 * steps; ++k)
                sum += static_cast<int8_t>(x[static_cast<size_t>(r * row_bytes + k)]) *
                       w[static_cast<size_t>((k / 4 * panel_rows + i) * 4 + k % 4)];
              const auto at = static_cast<size_t>(r * panel_rows + i);
              const float worth = to_float(scales[static_cast<size_t>(i)]) * x_scales[static_cast<size_t>(r)];
              REQUIRE(y[at] == std::fma(static_cast<float>(sum), worth, before[at]));
            }
        }
    }
  });
}

TEST_CASE("tile units: a panel turned, and the check of a unit before its first use") {
  for_units([](const tiles::TileUnit& unit) {
    CHECK(tiles::agrees_with_emulation(unit));
    constexpr int64_t pairs = 37, row_words = 41;
    std::vector<uint32_t> panel(pairs * panel_rows), rows(panel_rows * row_words, 5);
    for (size_t i = 0; i < panel.size(); ++i) panel[i] = static_cast<uint32_t>(i) + 100;
    unit.turn(panel.data(), pairs, rows.data(), row_words);
    for (int64_t r = 0; r < panel_rows; ++r)
      for (int64_t p = 0; p < row_words; ++p)
        REQUIRE(rows[static_cast<size_t>(r * row_words + p)] ==
                (p < pairs ? panel[static_cast<size_t>(p * panel_rows + r)] : 5u));
  });
  tiles::TileUnit wrong = tiles::emulated_unit();
  wrong.product = [](const PanelProduct& p) {
    tiles::emulated_unit().product(p);
    float& second = static_cast<float*>(p.c)[1];
    second = -second;
  };
  CHECK_FALSE(tiles::agrees_with_emulation(wrong));
  wrong = tiles::emulated_unit();
  wrong.add_segment = [](const tiles::ByteSegment& s) {
    tiles::emulated_unit().add_segment(s);
    s.y[9] = -s.y[9];
  };
  CHECK_FALSE(tiles::agrees_with_emulation(wrong));
}

TEST_CASE("tile units are used at the level amx alone, or where a test says so") {
  at_every_isa([] {
    if (isa() != Isa::amx) CHECK(tiles::unit() == nullptr);
    {
      const tiles::UnitScope scope(&tiles::emulated_unit());
      CHECK(tiles::unit() == &tiles::emulated_unit());
    }
    {
      const tiles::UnitScope scope(nullptr);
      CHECK(tiles::unit() == nullptr);
    }
    if (isa() != Isa::amx) CHECK(tiles::unit() == nullptr);
  });
}

TEST_CASE("own products in tiles: ragged panels, an odd contraction, one longer than a block, several at once") {
  const tiles::UnitScope scope(&tiles::emulated_unit());
  at_every_isa([] {
    if (!own::available()) return;
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{1, 64, 2}, {5, 70, 1}, {101, 65, 33}, {33, 130, 2101}}) {
      const auto a = whole_numbers(m * (k + 3), 1), w = whole_numbers(n * k, 2);
      const auto af = widened(a), wf = widened(w);
      std::vector<bf16> panels(static_cast<size_t>(panel_elements(n, k))), half(static_cast<size_t>(m * n));
      pack_panels(view(wf.data(), n, k), false, panels.data());
      std::vector<float> y(static_cast<size_t>(m * (n + 5)), 99.0f);
      const ConstView left{a.data(), DType::bf16, m, k, k + 3};
      const PanelGemm both[] = {{left, panels.data(), n, k, {y.data(), DType::f32, m, n, n + 5}},
                                {left, panels.data(), n, k, view(half.data(), m, n)}};
      own::gemm_panels(both);
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n + 5; ++j) {
          float expected = j < n ? 0.0f : 99.0f;
          for (int64_t p = 0; j < n && p < k; ++p)
            expected += af[static_cast<size_t>(i * (k + 3) + p)] * wf[static_cast<size_t>(j * k + p)];
          REQUIRE(y[static_cast<size_t>(i * (n + 5) + j)] == expected);
          if (j < n) REQUIRE(half[static_cast<size_t>(i * n + j)].bits == to_bf16(expected).bits);
        }
    }
  });
}

TEST_CASE("own gradients of weights in tiles: ragged panels, odd rows, more rows than a block, accumulated or not") {
  const tiles::UnitScope scope(&tiles::emulated_unit());
  at_every_isa([] {
    if (!own::available()) return;
    for (const auto& [m, n, k] : {std::array<int64_t, 3>{64, 64, 2}, {70, 5, 1}, {65, 130, 33}, {66, 67, 2151}})
      for (const bool accumulate : {false, true}) {
        const auto a = whole_numbers(k * (m + 1), 3), b = whole_numbers(k * n, 4);
        const auto af = widened(a), bf = widened(b);
        std::vector<float> c(static_cast<size_t>(m * n), 7.0f);
        own::gemm_gradient({a.data(), DType::bf16, k, m, m + 1}, view(b.data(), k, n), view(c.data(), m, n),
                           accumulate);
        for (int64_t i = 0; i < m; ++i)
          for (int64_t j = 0; j < n; ++j) {
            float expected = accumulate ? 7.0f : 0.0f;
            for (int64_t p = 0; p < k; ++p)
              expected += af[static_cast<size_t>(p * (m + 1) + i)] * bf[static_cast<size_t>(p * n + j)];
            REQUIRE(c[static_cast<size_t>(i * n + j)] == expected);
          }
      }
  });
}

TEST_CASE("packed products of 8-bit activations have the same bits in tiles, for every form and number of rows") {
  const MadeRounding eight(F32Activations::integers, 8);
  const bool has_bytes = isa() >= Isa::avx512;
  static std::atomic<int64_t> segments;
  tiles::TileUnit counted = tiles::emulated_unit();
  counted.add_segment = [](const tiles::ByteSegment& s) {
    ++segments;
    tiles::emulated_unit().add_segment(s);
  };
  for_forms([&](PackedLayout layout, PackedElement element, int64_t group) {
    if (!meets_integers(element)) return;
    for (const auto& [cols, m] : {std::array<int64_t, 2>{7, 16}, {100, 15}, {100, 33}, {384, 16}, {384, 67}}) {
      const Packed p = make(layout, element, 65, cols, group);
      INFO(static_cast<int>(layout), " ", static_cast<int>(element), " ", group, " ", cols, " ", m);
      const std::vector<float> x = random_rows(m, cols);
      std::vector<float> dots, in_tiles;
      {
        const tiles::UnitScope scope(nullptr);
        dots = multiply(p, x, m);
      }
      segments = 0;
      {
        const tiles::UnitScope scope(&counted);
        in_tiles = multiply(p, x, m);
      }
      CHECK((segments > 0) == (has_bytes && m >= tiles::side));
      CHECK(std::memcmp(dots.data(), in_tiles.data(), dots.size() * sizeof(float)) == 0);
    }
  });
}
