// Products of packed matrices against a plain product with the unpacked matrix, for every layout, element, group and
// instruction set.
#include "kernels/packed/packed.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "base/random.h"
#include "kernels/parallel.h"
#include "lib/kernels/numbers.h"
#include "support/elements.h"
#include "support/isa.h"

using namespace hone;
using namespace hone::kernels;

namespace {

constexpr PackedElement int8 = element_named("int8"), int4 = element_named("int4");

bool is_scaled(PackedElement element) {
  return info_of(element).scaled();
}

// A matrix with its arrays, and the same numbers unpacked.
struct Packed {
  PackedMatrix w;
  std::vector<uint64_t> values, masks, offsets;  // uint64_t for the alignment
  std::vector<bf16> scales;
  std::vector<float> dense;  // [rows, cols]
};

Packed make(PackedLayout layout, PackedElement element, int64_t rows, int64_t cols, int64_t group) {
  Random random(static_cast<uint64_t>(rows * 4096 + cols), "matrix");
  Packed p;
  p.w = {layout, element, packed_shape(element, rows, cols, group)};
  const PackedShape& s = p.w.shape;
  const auto n = static_cast<size_t>(rows * cols);
  std::vector<int8_t> integers(n);
  std::vector<bf16> halves(n);
  for (size_t i = 0; i < n; ++i) {
    if (is_scaled(element)) integers[i] = hone::test::random_integer(element, random);
    halves[i] = to_bf16(static_cast<float>(random.normal()));
  }
  p.scales.resize(static_cast<size_t>(s.panels * s.groups * panel_rows));
  for (auto& x : p.scales) x = to_bf16(static_cast<float>(0.01 + random.uniform()));
  std::vector<uint8_t> bits(static_cast<size_t>(rows * ((cols + 7) / 8)));
  for (auto& b : bits) b = static_cast<uint8_t>(random.next() & random.next());
  auto bytes = s.panels * s.panel_bytes;
  if (layout == PackedLayout::bitmask) {
    p.masks.resize(static_cast<size_t>(s.tiles() * s.mask_bytes / 8));
    p.offsets.resize(static_cast<size_t>(s.panels + 1));
    packed_masks(s, bits.data(), p.masks.data());
    CHECK(packed_offsets(element, s, p.masks.data(), p.offsets.data()));
    bytes = static_cast<int64_t>(p.offsets.back()) + packed_slack;
  }
  p.values.resize(static_cast<size_t>(bytes + 7) / 8);
  p.w.masks = p.masks.data();
  p.w.offsets = p.offsets.data();
  p.w.scales = p.scales.data();
  packed_fill(p.w, is_scaled(element) ? static_cast<void*>(integers.data()) : halves.data(), p.values.data());
  p.w.values = p.values.data();
  p.dense.assign(n, 0);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      const auto i = static_cast<size_t>(r * cols + c);
      if (layout == PackedLayout::bitmask && !(bits[static_cast<size_t>(r * ((cols + 7) / 8) + c / 8)] >> (c % 8) & 1))
        continue;
      const auto scale = static_cast<size_t>((r / 64 * s.groups + (group ? c / group : 0)) * 64 + r % 64);
      p.dense[i] =
          is_scaled(element) ? static_cast<float>(integers[i]) * to_float(p.scales[scale]) : to_float(halves[i]);
    }
  return p;
}

// The integer of the largest byte or the largest size, whichever is a harder test of sums: at the end of the table.
int largest(PackedElement element) {
  const ElementInfo& info = info_of(element);
  return info.highest < -info.lowest ? info.lowest : info.highest;
}

std::vector<float> random_rows(int64_t m, int64_t cols) {
  return kernels::test::exact_numbers(m * cols, static_cast<uint64_t>(m));
}

// The plain product, and for each element the size that rounding errors are measured by.
struct Reference {
  std::vector<double> y, size;
};

// With `segment` > 0 the size of a term is that of the largest |x| in its segment: what rounding to integers is
// relative to.
Reference reference(const Packed& p, const std::vector<float>& x, int64_t m, int64_t segment) {
  const auto rows = static_cast<size_t>(p.w.shape.rows), cols = static_cast<size_t>(p.w.shape.cols);
  Reference result;
  std::vector<double> sizes(cols);
  for (size_t i = 0; i < static_cast<size_t>(m); ++i) {
    const float* row = x.data() + i * cols;
    for (size_t c = 0; c < cols; ++c) sizes[c] = std::abs(row[c]);
    for (size_t c = 0; segment && c < cols; ++c) {
      const size_t begin = c - c % static_cast<size_t>(segment);
      if (c > begin) sizes[begin] = std::max(sizes[begin], sizes[c]);
    }
    for (size_t c = 0; segment && c < cols; ++c) sizes[c] = sizes[c - c % static_cast<size_t>(segment)];
    for (size_t r = 0; r < rows; ++r) {
      double sum = 0, size = 1e-30;
      for (size_t c = 0; c < cols; ++c) {
        const double w = p.dense[r * cols + c];
        sum += row[c] * w;
        size += sizes[c] * std::abs(w);
      }
      result.y.push_back(sum);
      result.size.push_back(size);
    }
  }
  return result;
}

double worst(const Reference& want, const std::vector<float>& y) {
  double result = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double error = std::abs(y[i] - want.y[i]) / want.size[i];
    if (!(error <= result)) result = error;  // a NaN stays
  }
  return result;
}

int64_t segment_of(const Packed& p) {
  if (!is_scaled(p.w.element)) return 0;
  return p.w.shape.group ? p.w.shape.group : 128;
}

// Half a step of activations in integers, and what is left for f32 sums.
constexpr double integer_tolerance = 0.5 / 32512 + 2e-6, tolerance_8 = 0.5 / 127 + 2e-6;

// Whether rows in this type go straight through the packed bytes.
bool is_direct(const Packed& p, int64_t m, DType x = DType::f32) {
  return m <= packed_direct_rows(p.w, x);
}

struct Level {
  explicit Level(Isa level) { set_isa(level); }
  ~Level() { set_isa(isa_levels().back()); }
};

struct Activations {
  explicit Activations(F32Activations how) { set_f32_activations(how); }
  ~Activations() { set_f32_activations(F32Activations::exact); }
};

struct Bits {
  explicit Bits(int bits) { set_packed_activation_bits(bits); }
  ~Bits() { set_packed_activation_bits(16); }
};

struct Threads {
  explicit Threads(int count) : before(threads()) { set_threads(count); }
  ~Threads() { set_threads(before); }
  int before;
};

template <class F>
void for_forms(F&& f) {
  for (const auto layout : {PackedLayout::panels, PackedLayout::bitmask})
    for (const PackedElement element : all_elements)
      for (const int64_t group : {0, 32, 64, 128})
        if (group == 0 || is_scaled(element)) f(layout, element, group);
}

std::vector<float> multiply(const Packed& p, const std::vector<float>& x, int64_t m) {
  std::vector<float> y(static_cast<size_t>(m * p.w.shape.rows), std::nanf(""));
  packed_matmul(p.w, view(x.data(), m, p.w.shape.cols), view(y.data(), m, p.w.shape.rows));
  return y;
}

}  // namespace

TEST_CASE("packed products of 16-bit activations equal the plain product at every instruction set") {
  const Threads one(1);
  const Activations integers(F32Activations::integers);
  for_forms([](PackedLayout layout, PackedElement element, int64_t group) {
    for (const int64_t rows : {1, 63, 65, 200})
      for (const int64_t cols : {7, 32, 100, 384}) {
        const Packed p = make(layout, element, rows, cols, group);
        for (const int64_t m : {1, 2, 3, 8, 17, 70}) {
          if (m == 70 && (rows < 200 || cols < 100)) continue;  // few of the slow ones
          const std::vector<float> x = random_rows(m, cols);
          const bool exact = !is_scaled(element);
          const double tolerance = exact ? 2e-6 : integer_tolerance;
          const Reference want = reference(p, x, m, segment_of(p));
          std::vector<float> first;
          for (const Isa level : hone::test::isa_levels_tested()) {
            const Level scope(level);
            INFO(static_cast<int>(layout), " ", static_cast<int>(element), " ", group, " ", rows, " ", cols, " ", m,
                 " ", name_of(level));
            const std::vector<float> y = multiply(p, x, m);
            CHECK(worst(want, y) < tolerance);
            if (exact || !is_direct(p, m)) continue;
            // The integers are the same everywhere. The sums over groups too, where multiplication and addition are
            // fused.
            if (first.empty()) first = y;
            const double limit = level == Isa::avx2 ? 3e-7 : 0;
            int64_t different = 0;
            for (size_t i = 0; i < y.size(); ++i) different += std::abs(y[i] - first[i]) > limit * want.size[i];
            CHECK(different == 0);
            first = y;
          }
        }
      }
  });
}

TEST_CASE("f32 rows have f32 results, however many they are") {
  const Threads two(2);
  for_forms([](PackedLayout layout, PackedElement element, int64_t group) {
    const int64_t rows = 70, cols = 131, most = 40;
    const Packed p = make(layout, element, rows, cols, group);
    Random random(9, "activations");  // of any size, which bf16 and 16-bit integers would round
    std::vector<float> x(static_cast<size_t>(most * cols));
    for (float& v : x) v = static_cast<float>(random.normal() * std::exp(2 * random.normal()));
    const Reference want = reference(p, x, most, 0);
    for (const Isa level : hone::test::isa_levels_tested()) {
      const Level scope(level);
      for (int64_t m = 1; m <= most; ++m) {
        INFO(static_cast<int>(layout), " ", static_cast<int>(element), " ", group, " ", m, " ", name_of(level));
        CHECK(worst(want, multiply(p, x, m)) < 1e-6);
      }
    }
  });
}

TEST_CASE("bf16 rows: exact weights where they go straight, weights rounded to bf16 at most for many") {
  for_forms([](PackedLayout layout, PackedElement element, int64_t group) {
    const int64_t rows = 130, cols = 203;
    const Packed p = make(layout, element, rows, cols, group);
    for (const int64_t m : {1, 5, 16, 17, 40}) {
      std::vector<float> x = random_rows(m, cols), y(static_cast<size_t>(m * rows));
      std::vector<bf16> half;
      for (float& v : x) v = to_float(half.emplace_back(to_bf16(v)));
      for (const Isa level : hone::test::isa_levels_tested()) {
        const Level scope(level);
        const bool few = is_direct(p, m, DType::bf16);
        const Reference want = reference(p, x, m, few ? segment_of(p) : 0);
        packed_matmul(p.w, view(std::as_const(half).data(), m, cols), view(y.data(), m, rows));
        const double tolerance = !is_scaled(element) ? 2e-6 : few ? integer_tolerance : 4e-3;
        INFO(static_cast<int>(layout), " ", static_cast<int>(element), " ", group, " ", m, " ", name_of(level));
        CHECK(worst(want, y) < tolerance);
      }
    }
  });
}

TEST_CASE("products of 8-bit activations equal the plain product, bit for bit at every instruction set") {
  const Threads one(1);
  const Activations integers(F32Activations::integers);
  const Bits eight(8);
  for_forms([](PackedLayout layout, PackedElement element, int64_t group) {
    if (!is_scaled(element)) return;
    for (const int64_t cols : {7, 100, 384})
      for (const int64_t m : {1, 3, 4, 7, 17, 67}) {
        const Packed p = make(layout, element, 65, cols, group);
        const std::vector<float> x = random_rows(m, cols);
        const Reference want = reference(p, x, m, segment_of(p));
        std::vector<float> first;
        for (const Isa level : hone::test::isa_levels_tested()) {
          const Level scope(level);
          INFO(static_cast<int>(layout), " ", static_cast<int>(element), " ", group, " ", cols, " ", m, " ",
               name_of(level));
          CHECK(is_direct(p, m));
          const std::vector<float> y = multiply(p, x, m);
          const double error = worst(want, y);
          CHECK(error < tolerance_8);
          if (cols == 384) CHECK(error > integer_tolerance);  // 8 bits they are
          if (first.empty()) first = y;
          const double limit = level == Isa::avx2 ? 3e-7 : 0;
          int64_t different = 0;
          for (size_t i = 0; i < y.size(); ++i) different += std::abs(y[i] - first[i]) > limit * want.size[i];
          CHECK(different == 0);
          first = y;
        }
      }
  });
}

TEST_CASE("a row's result does not depend on the rows beside it nor on the threads") {
  const Threads restored(threads());
  const std::pair<F32Activations, int> kinds[] = {
      {F32Activations::exact, 16}, {F32Activations::integers, 16}, {F32Activations::integers, 8}};
  for (const auto& [how, bits] : kinds)
    for_forms([&](PackedLayout layout, PackedElement element, int64_t group) {
      if (bits == 8 && !is_scaled(element)) return;
      const Activations activations(how);
      const Bits activation_bits(bits);
      const Packed p = make(layout, element, 330, 260, group);
      for (const Isa level : hone::test::isa_levels_tested()) {
        const Level scope(level);
        const int64_t most = std::min<int64_t>(packed_direct_rows(p.w, DType::f32), level == Isa::portable ? 20 : 131);
        const std::vector<float> x = random_rows(most, 260);
        set_threads(2);
        const std::vector<float> all = multiply(p, x, most);
        set_threads(1);
        for (int64_t m = 1; m < most; m += m < 20 ? 1 : 23) {
          INFO(static_cast<int>(layout), " ", static_cast<int>(element), " ", group, " ", m, " ", name_of(level));
          const std::vector<float> part = multiply(p, x, m);
          CHECK(std::memcmp(part.data(), all.data(), part.size() * sizeof(float)) == 0);
        }
      }
    });
}

TEST_CASE("several products in one loop are those of each, bit for bit") {
  const int before = threads();
  for (const Isa level : hone::test::isa_levels_tested()) {
    set_isa(level);
    CAPTURE(name_of(level));
    for (const PackedLayout layout : {PackedLayout::panels, PackedLayout::bitmask})
      for (const PackedElement element : all_elements)
        for (const int count : {1, 2, 5}) {
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
        }
  }
  set_threads(before);
  set_isa(isa_levels().back());
}

TEST_CASE("x and y may be bf16 and have strides") {
  const Packed p = make(PackedLayout::bitmask, int8, 70, 40, 0);
  const int64_t m = 3;
  const Activations integers(F32Activations::integers);  // as bf16 rows have them
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
  const Packed p = make(PackedLayout::panels, int8, 64, 256, 0);
  for (const Isa level : hone::test::isa_levels_tested())
    for (const int64_t m : {1, 20})
      for (const F32Activations how : {F32Activations::exact, F32Activations::integers}) {
        const Level scope(level);
        const Activations activations(how);
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
    const Packed wide = make(layout, element, 64, 400, group), narrow = make(layout, element, 65, 97, group);
    const std::vector<float> bad(static_cast<size_t>(packed_few_rows * 400), std::nanf(""));
    const std::vector<float> x = random_rows(5, 97);
    for (const Isa level : hone::test::isa_levels_tested())
      for (const F32Activations how : {F32Activations::exact, F32Activations::integers}) {
        const Level scope(level);
        const Activations activations(how);
        INFO(static_cast<int>(layout), " ", static_cast<int>(element), " ", group, " ", name_of(level));
        multiply(wide, bad, packed_few_rows);
        CHECK(worst(reference(narrow, x, 5, segment_of(narrow)), multiply(narrow, x, 5)) < integer_tolerance);
      }
  });
}

TEST_CASE("sums stay exact in long rows of the largest integers") {
  const int64_t cols = 40000;
  const Activations integer_sums(F32Activations::integers);
  for (const PackedElement element : all_elements) {
    if (!is_scaled(element)) continue;
    Packed p = make(PackedLayout::panels, element, 3, cols, 0);
    std::vector<int8_t> integers(static_cast<size_t>(3 * cols), static_cast<int8_t>(largest(element)));
    packed_fill(p.w, integers.data(), p.values.data());
    for (auto& s : p.scales) s = to_bf16(1);
    for (size_t i = 0; i < p.dense.size(); ++i) p.dense[i] = integers[i];
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
  const DenseProduct plain_columns{nullptr, [](ConstView a, ConstView w, View out) {
                                     for (int64_t i = 0; i < a.rows; ++i)
                                       for (int64_t r = 0; r < w.cols; ++r) {
                                         float sum = 0;
                                         for (int64_t c = 0; c < a.cols; ++c)
                                           sum += a.row<float>(i)[c] * w.row<float>(c)[r];
                                         out.row<float>(i)[r] = sum;
                                       }
                                   }};
  const DenseProduct plain_panels{[](ConstView a, const bf16* w, int64_t n, int64_t cols, View out) {
                                    const int64_t padded = (cols + 31) / 32 * 32;
                                    with_float_type(out.dtype, [&]<class T>(T*) {
                                      for (int64_t i = 0; i < a.rows; ++i)
                                        for (int64_t r = 0; r < n; ++r) {
                                          float sum = 0;
                                          for (int64_t c = 0; c < cols; ++c)
                                            sum += to_float(a.row<bf16>(i)[c]) *
                                                   to_float(w[r / 64 * 64 * padded + c / 2 * 128 + r % 64 * 2 + c % 2]);
                                          if constexpr (std::is_same_v<T, float>) {
                                            out.row<T>(i)[r] = sum;
                                          } else {
                                            out.row<T>(i)[r] = to_bf16(sum);
                                          }
                                        }
                                    });
                                  },
                                  nullptr};
  const DenseProduct plain_f32_panels{.f32_panels = [](ConstView a, const float* w, View out) {
    for (int64_t i = 0; i < a.rows; ++i)
      for (int64_t r = 0; r < out.cols; ++r) {
        float sum = 0;
        for (int64_t c = 0; c < a.cols; ++c) sum += a.row<float>(i)[c] * w[(r / 16 * a.cols + c) * 16 + r % 16];
        out.row<float>(i)[r] = sum;
      }
  }};
  for (const DenseProduct& dense : {plain_columns, plain_panels, plain_f32_panels, default_dense_product(DType::f32),
                                    default_dense_product(DType::bf16)}) {
    std::vector<float> y(static_cast<size_t>(m * 200));
    std::vector<bf16> half(y.size());
    packed_matmul(p.w, view(x.data(), m, 100), view(y.data(), m, 200), dense);
    packed_matmul(p.w, view(x.data(), m, 100), view(half.data(), m, 200), dense);
    CHECK(worst(want, y) < 4e-3);
    for (size_t i = 0; i < y.size(); ++i) CHECK(std::abs(to_float(half[i]) - y[i]) <= 0.005f * std::abs(y[i]) + 1e-5f);
  }
}
