// Packed products beside the plain case: several at once, strides, other dense products, numbers at the edge.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/awake.h"
#include "lib/kernels/packed/packed_matrices.h"

using namespace hone;
using namespace hone::kernels;
using namespace hone::kernels::test;

TEST_CASE("several products in one loop are those of each, bit for bit") {
  const int before = threads();
  for (const Isa level : hone::test::isa_levels_tested()) {
    set_isa(level);
    CAPTURE(name_of(level));
    int64_t turn = 0;
    for (const PackedLayout layout : {PackedLayout::panels, PackedLayout::bitmask})
      for (const PackedElement element : all_elements) {
        ++turn;  // four a form: under the sanitizers one number of threads each, in turn
        for (const int count : {1, 2, 5}) {
          if (!hone::test::takes_turn(turn++, 3)) continue;
          set_threads(count);
          const int64_t rows[] = {300, 64, 1, 129, 200}, many[] = {1, packed_few_rows, 40, 200, 0};
          std::vector<Packed> matrices;
          std::vector<std::vector<bf16>> xs;
          std::vector<std::vector<float>> actual, expected;
          for (size_t i = 0; i < 5; ++i) {
            const int64_t group = is_scaled(element) ? 32 : 0;
            matrices.push_back(make(layout, element, rows[i], i % 2 ? 96 : 128, group));
            xs.emplace_back();
            for (const float v : random_rows(many[i], matrices[i].w.shape.cols)) xs[i].push_back(to_bf16(v));
            actual.emplace_back(static_cast<size_t>(many[i] * rows[i]), -1.0f);
            expected.push_back(actual[i]);
          }
          const auto product = [&](size_t i, std::vector<float>& y) {
            const auto x = view(std::as_const(xs[i]).data(), many[i], matrices[i].w.shape.cols);
            return PackedProduct{matrices[i].w, x, view(y.data(), many[i], rows[i])};
          };
          std::vector<PackedProduct> products;
          for (size_t i = 0; i < 5; ++i) {
            const PackedProduct alone = product(i, expected[i]);
            packed_matmul(alone.w, alone.x, alone.y);
            products.push_back(product(i, actual[i]));
          }
          packed_matmul_each(products);
          CHECK(actual == expected);
          for (std::vector<float>& y : actual) std::ranges::fill(y, -1.0f);
          const Awake awake(1);  // the same of the threads that share out other pieces
          packed_matmul_each(products);
          CHECK(actual == expected);
        }
      }
  }
  set_threads(before);
  set_isa(isa_levels().back());
}

TEST_CASE("products that threads take in pieces are those of one thread, bit for bit") {
  const Threads restored(threads());
  for (const PackedLayout layout : {PackedLayout::panels, PackedLayout::bitmask}) {
    // Some hundred KB a thread, so that each range is cut.
    const Packed first = make(layout, int8, 2050, 512, 0), second = make(layout, int8, 1100, 384, 32);
    for (const int64_t m : {1, 3, 20}) {
      CAPTURE(m);
      std::vector<bf16> xs[2];
      std::vector<float> ys[2];
      std::vector<PackedProduct> products;
      for (const int i : {0, 1}) {
        const PackedMatrix& w = (i ? second : first).w;
        for (const float v : random_rows(m, w.shape.cols)) xs[i].push_back(to_bf16(v));
        ys[i].resize(static_cast<size_t>(m * w.shape.rows));
        products.push_back(
            {w, view(std::as_const(xs[i]).data(), m, w.shape.cols), view(ys[i].data(), m, w.shape.rows)});
      }
      set_threads(1);
      packed_matmul_each(products);
      const std::vector<float> expected[] = {ys[0], ys[1]};
      for (const int count : {2, 3, 7})
        for (const int64_t rows : {int64_t{1}, awake_rows + 1}) {  // threads that stay awake, and OpenMP's
          CAPTURE(count);
          set_threads(count);
          for (std::vector<float>& y : ys) std::ranges::fill(y, -1.0f);
          const Awake awake(rows);
          packed_matmul_each(products);
          CHECK(ys[0] == expected[0]);
          CHECK(ys[1] == expected[1]);
        }
    }
  }
}

TEST_CASE("x and y may be bf16 and have strides") {
  const MadeRounding integers(F32Activations::integers);  // as bf16 rows have them
  const Packed p = make(PackedLayout::bitmask, int8, 70, 40, 0);
  const int64_t m = 3;
  const std::vector<float> x = random_rows(m, 40), y = multiply(p, x, m);
  std::vector<bf16> wide_x(static_cast<size_t>(m * 50)), wide_y(static_cast<size_t>(m * 90), to_bf16(7));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t c = 0; c < 40; ++c)
      wide_x[static_cast<size_t>(i * 50 + c)] = to_bf16(x[static_cast<size_t>(i * 40 + c)]);
  packed_matmul(p.w, {wide_x.data(), DType::bf16, m, 40, 50}, {wide_y.data(), DType::bf16, m, 70, 90});
  for (int64_t i = 0; i < m; ++i)
    for (int64_t r = 0; r < 90; ++r) {
      const float want = r < 70 ? y[static_cast<size_t>(i * 70 + r)] : 7.0f;
      CHECK(wide_y[static_cast<size_t>(i * 90 + r)].bits == to_bf16(want).bits);
    }
}

TEST_CASE("many rows with strides, in a matrix of several pieces") {
  const int64_t m = 17, rows = 150, cols = 40000;  // more than 8 MB unpacked
  const Packed p = make(PackedLayout::panels, int4, rows, cols, 128);
  const std::vector<float> x = random_rows(m, cols);
  std::vector<float> wide_x(static_cast<size_t>(m * (cols + 3))), wide_y(static_cast<size_t>(m * (rows + 5)), 7.0f), y;
  for (int64_t i = 0; i < m; ++i) std::copy_n(x.data() + i * cols, cols, wide_x.data() + i * (cols + 3));
  packed_matmul(p.w, {wide_x.data(), DType::f32, m, cols, cols + 3}, {wide_y.data(), DType::f32, m, rows, rows + 5});
  for (int64_t i = 0; i < m; ++i) {
    const auto row = wide_y.begin() + i * (rows + 5);
    y.insert(y.end(), row, row + rows);
    CHECK(std::count(row + rows, row + rows + 5, 7.0f) == 5);
  }
  CHECK(worst(reference(p, x, m, 0), y) < 1e-6);
}

TEST_CASE("extreme activations: zeros give zeros, an outlier keeps its neighbours, NaN and infinity show") {
  Packed p = make(PackedLayout::panels, int8, 64, 256, 0);
  for (const Isa level : hone::test::isa_levels_tested())
    for (const int64_t m : {1, 20})
      for (const F32Activations how : {F32Activations::exact, F32Activations::integers}) {
        const Level scope(level);
        p.w.rounding.f32 = how;
        INFO(name_of(level), " ", m, " ", static_cast<int>(how));
        const auto n = static_cast<size_t>(m * 256);
        std::vector<float> x(n, 0.0f);
        for (float v : multiply(p, x, m)) CHECK(v == 0);
        x.assign(n, 1.0f);
        x[5] = 1000.0f;
        CHECK(worst(reference(p, x, m, 128), multiply(p, x, m)) < integer_tolerance);
        x.assign(n, 1e33f);
        CHECK(worst(reference(p, x, m, 128), multiply(p, x, m)) < integer_tolerance);
        for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
          x[7] = bad;
          const std::vector<float> y = multiply(p, x, m);
          for (size_t r = 0; r < 64; ++r) CHECK(!std::isfinite(y[r]));
          for (size_t r = 64; r < y.size(); ++r) CHECK(std::isfinite(y[r]));
        }
      }
}

TEST_CASE("what an earlier product left in the scratch memory does not reach a later one") {
  const Threads one(1);
  for_forms([](PackedLayout layout, PackedElement element, int64_t group) {
    Packed wide = make(layout, element, 64, 400, group), narrow = make(layout, element, 65, 97, group);
    const std::vector<float> bad(static_cast<size_t>(packed_few_rows * 400), std::nanf(""));
    const std::vector<float> x = random_rows(5, 97);
    for (const Isa level : hone::test::isa_levels_tested())
      for (const F32Activations how : {F32Activations::exact, F32Activations::integers}) {
        const Level scope(level);
        wide.w.rounding.f32 = narrow.w.rounding.f32 = how;
        INFO(static_cast<int>(layout), " ", static_cast<int>(element), " ", group, " ", name_of(level));
        multiply(wide, bad, packed_few_rows);
        CHECK(worst(reference(narrow, x, 5, segment_of(narrow)), multiply(narrow, x, 5)) < integer_tolerance);
      }
  });
}

TEST_CASE("sums stay exact in long rows of the largest integers") {
  const int64_t cols = 40000;
  const MadeRounding integer_sums(F32Activations::integers);
  for (const PackedElement element : all_elements) {
    if (!is_scaled(element)) continue;
    Packed p = make(PackedLayout::panels, element, 3, cols, 0);
    std::vector<int8_t> integers(static_cast<size_t>(3 * cols), static_cast<int8_t>(largest(element)));
    packed_fill(p.w, integers.data(), p.values.data());
    for (auto& s : p.scales) s = to_bf16(1);
    for (size_t i = 0; i < p.dense.size(); ++i) p.dense[i] = info_of(element).number_of(integers[i]);
    const std::vector<float> x(static_cast<size_t>(cols), 1.0f);
    for (const Isa level : hone::test::isa_levels_tested()) {
      const Level scope(level);
      CHECK(worst(reference(p, x, 1, 128), multiply(p, x, 1)) < 1e-6);
    }
  }
}

TEST_CASE("many rows: any dense product gives the same, and y may be bf16") {
  const Packed p = make(PackedLayout::bitmask, int4, 200, 100, 32);
  const int64_t m = 20;
  const std::vector<float> x = random_rows(m, 100);
  const Reference want = reference(p, x, m, 0);
  const DenseProduct plain_panels{.panels = [](ConstView a, const bf16* w, int64_t n, int64_t cols, View out) {
    const int64_t padded = (cols + 31) / 32 * 32;
    with_float_type(out.dtype, [&]<class T>(T*) {
      for (int64_t i = 0; i < a.rows; ++i)
        for (int64_t r = 0; r < n; ++r) {
          float sum = 0;
          for (int64_t c = 0; c < cols; ++c)
            sum += to_float(a.row<bf16>(i)[c]) * to_float(w[r / 64 * 64 * padded + c / 2 * 128 + r % 64 * 2 + c % 2]);
          if constexpr (std::is_same_v<T, float>) {
            out.row<T>(i)[r] = sum;
          } else {
            out.row<T>(i)[r] = to_bf16(sum);
          }
        }
    });
  }};
  const DenseProduct plain_f32_panels{.f32_panels = [](ConstView a, const float* w, View out) {
    const int64_t groups = (a.cols + 7) / 8;
    for (int64_t i = 0; i < a.rows; ++i)
      for (int64_t r = 0; r < out.cols; ++r) {
        float sum = 0;
        for (int64_t c = 0; c < a.cols; ++c)
          sum += a.row<float>(i)[c] * w[((r / 4 * groups + c / 8) * 4 + r % 4) * 8 + c % 8];
        out.row<float>(i)[r] = sum;
      }
  }};
  const DenseProduct of_bf16 = default_dense_product(DType::bf16);
  const Level lowest(isa_levels().front());  // where so many rows do not go straight
  REQUIRE(!is_direct(p, m));
  for (const DenseProduct& dense : {plain_panels, plain_f32_panels, default_dense_product(DType::f32), of_bf16}) {
    std::vector<float> y(static_cast<size_t>(m * 200));
    std::vector<bf16> half(y.size());
    packed_matmul(p.w, view(x.data(), m, 100), view(y.data(), m, 200), dense);
    packed_matmul(p.w, view(x.data(), m, 100), view(half.data(), m, 200), dense);
    CHECK(worst(want, y) < 4e-3);
    for (size_t i = 0; i < y.size(); ++i) CHECK(std::abs(to_float(half[i]) - y[i]) <= 0.005f * std::abs(y[i]) + 1e-5f);
  }
}
TEST_CASE(
    "what is expanded for dense products is the matrix, at every instruction set, whether a product uses it or not") {
  constexpr int64_t rows = 130, cols = 100, panels = 3, padded = 128, groups = (cols + 7) / 8;
  hone::test::at_every_isa([] {
    for (const PackedLayout layout : {PackedLayout::panels, PackedLayout::bitmask})
      for (const PackedElement element : all_elements) {
        CAPTURE(info_of(element).name);
        const Packed p = make(layout, element, rows, cols, is_scaled(element) ? 32 : 0);
        // The second and third of the panels, and all of them.
        for (const int64_t begin : {1, 0}) {
          const int64_t count = panels - begin;
          std::vector<bf16> half(static_cast<size_t>(count * 64 * padded));
          std::vector<float> exact(static_cast<size_t>(count * 64 * groups * 8));
          packed_expand(p.w, begin, count, half.data());
          packed_expand_f32(p.w, begin, count, exact.data());
          for (int64_t r = 0; r < rows - begin * 64; ++r)
            for (int64_t c = 0; c < cols; ++c) {
              const float want = p.dense[static_cast<size_t>((r + begin * 64) * cols + c)];
              const auto at = r / 64 * 64 * padded + c / 2 * 128 + r % 64 * 2 + c % 2;
              REQUIRE(to_float(half[static_cast<size_t>(at)]) == to_float(to_bf16(want)));
              REQUIRE(exact[static_cast<size_t>(((r / 4 * groups + c / 8) * 4 + r % 4) * 8 + c % 8)] == want);
            }
        }
      }
  });
}
