// Products of packed matrices against a plain product with the unpacked matrix, for every layout, element, group and
// instruction set.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "lib/kernels/packed/packed_matrices.h"

using namespace hone;
using namespace hone::kernels;
using namespace hone::kernels::test;

TEST_CASE("packed products of 16-bit activations equal the plain product at every instruction set") {
  const Threads one(1);
  const MadeRounding integers(F32Activations::integers);
  int64_t turn = 0;  // 21 a form: under the sanitizers every fourth size, and others of the next form
  for_forms([&](PackedLayout layout, PackedElement element, int64_t group) {
    ++turn;
    for (const int64_t rows : {1, 63, 65, 200}) {
      ++turn;
      for (const int64_t cols : {7, 32, 100, 384}) {
        if (!hone::test::takes_turn(turn++, 4)) continue;
        const Packed p = make(layout, element, rows, cols, group);
        for (const int64_t m : {1, 2, 3, 8, 17, 70}) {
          if (m == 70 && (rows < 200 || cols < 100)) continue;  // few of the slow ones
          const std::vector<float> x = random_rows(m, cols);
          const bool exact = !meets_integers(element);
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
    }
  });
}

TEST_CASE("f32 rows have f32 results, however many they are") {
  const Threads two(2);
  int64_t turn = 0;
  for_forms([&](PackedLayout layout, PackedElement element, int64_t group) {
    ++turn;
    const int64_t rows = 70, cols = 131, most = 40;
    const Packed p = make(layout, element, rows, cols, group);
    Random random(9, "activations");  // of any size, which bf16 and 16-bit integers would round
    std::vector<float> x(static_cast<size_t>(most * cols));
    for (float& v : x) v = static_cast<float>(random.normal() * std::exp(2 * random.normal()));
    const Reference want = reference(p, x, most, 0);
    for (const Isa level : hone::test::isa_levels_tested()) {
      const Level scope(level);
      for (int64_t m = 1; m <= most; ++m) {
        if (m > 8 && !hone::test::takes_turn(m + turn, 4)) continue;
        INFO(static_cast<int>(layout), " ", static_cast<int>(element), " ", group, " ", m, " ", name_of(level));
        CHECK(worst(want, multiply(p, x, m)) < 1e-6);
      }
    }
  });
}

TEST_CASE("bf16 rows: exact weights where they go straight, weights rounded to bf16 at most for many") {
  int64_t turn = 0;  // five a form: under the sanitizers every second number of rows, and the others of the next form
  for_forms([&](PackedLayout layout, PackedElement element, int64_t group) {
    const int64_t rows = 130, cols = 203;
    const Packed p = make(layout, element, rows, cols, group);
    for (const int64_t m : {1, 5, 16, 17, 40}) {
      if (!hone::test::takes_turn(turn++, 2)) continue;
      std::vector<float> x = random_rows(m, cols), y(static_cast<size_t>(m * rows));
      std::vector<bf16> half;
      for (float& v : x) v = to_float(half.emplace_back(to_bf16(v)));
      for (const Isa level : hone::test::isa_levels_tested()) {
        const Level scope(level);
        const bool few = is_direct(p, m, DType::bf16);
        const Reference want = reference(p, x, m, few ? segment_of(p) : 0);
        packed_matmul(p.w, view(std::as_const(half).data(), m, cols), view(y.data(), m, rows));
        const bool exact = !is_scaled(element) || (few && !meets_integers(element));
        const double tolerance = exact ? 2e-6 : few ? integer_tolerance : 4e-3;
        INFO(static_cast<int>(layout), " ", static_cast<int>(element), " ", group, " ", m, " ", name_of(level));
        CHECK(worst(want, y) < tolerance);
      }
    }
  });
}

TEST_CASE("products of 8-bit activations equal the plain product, bit for bit at every instruction set") {
  const Threads one(1);
  const MadeRounding eight(F32Activations::integers, 8);
  int64_t turn = 0;  // 22 a form: under the sanitizers every third size, and others of the next form
  for_forms([&](PackedLayout layout, PackedElement element, int64_t group) {
    if (!meets_integers(element)) return;
    ++turn;
    for (const int64_t cols : {7, 100, 384})
      for (const int64_t m : {1, 2, 3, 4, 7, 17, 67}) {
        if (!hone::test::takes_turn(turn++, 3)) continue;
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
          int64_t different = 0;
          for (size_t i = 0; i < y.size(); ++i) different += y[i] != first[i];
          CHECK(different == 0);
          first = y;
        }
      }
  });
}

TEST_CASE("a row's result does not depend on the rows beside it nor on the threads") {
  const Threads restored(threads());
  int64_t turn = 0, first_form = 0;
  const std::pair<F32Activations, int> kinds[] = {
      {F32Activations::exact, 16}, {F32Activations::integers, 16}, {F32Activations::integers, 8}};
  for (const auto& [how, bits] : kinds) {
    int64_t form = first_form++;
    for_forms([&](PackedLayout layout, PackedElement element, int64_t group) {
      if (bits == 8 && !meets_integers(element)) return;
      if (!hone::test::takes_turn(form++, 2)) return;  // under the sanitizers one kind takes what the next does not
      ++turn;
      const MadeRounding rounding(how, bits);
      const Packed p = make(layout, element, 330, 260, group);
      for (const Isa level : hone::test::isa_levels_tested()) {
        const Level scope(level);
        const int64_t most = std::min<int64_t>(packed_direct_rows(p.w, DType::f32), level == Isa::portable ? 20 : 131);
        const std::vector<float> x = random_rows(most, 260);
        set_threads(2);
        const std::vector<float> all = multiply(p, x, most);
        set_threads(1);
        for (int64_t m = 1; m < most; m += m < 20 ? 1 : 23) {
          if (m > 8 && m < 20 && !hone::test::takes_turn(m + turn, 4)) continue;
          INFO(static_cast<int>(layout), " ", static_cast<int>(element), " ", group, " ", m, " ", name_of(level));
          const std::vector<float> part = multiply(p, x, m);
          CHECK(std::memcmp(part.data(), all.data(), part.size() * sizeof(float)) == 0);
        }
      }
    });
  }
}

TEST_CASE("nor does that of a row of bf16, as far as rows go straight") {
  const Threads one(1);
  int64_t turn = 0;
  for_forms([&](PackedLayout layout, PackedElement element, int64_t group) {
    ++turn;
    const int64_t rows = 130, cols = 260;
    const Packed p = make(layout, element, rows, cols, group);
    std::vector<bf16> x;
    for (const float v : random_rows(131, cols)) x.push_back(to_bf16(v));
    for (const Isa level : hone::test::isa_levels_tested()) {
      const Level scope(level);
      const int64_t most = std::min<int64_t>(packed_direct_rows(p.w, DType::bf16), 131);
      std::vector<float> all;
      for (const int64_t m : {most, int64_t{1}, int64_t{8}, int64_t{9}, int64_t{13}, int64_t{20}, int64_t{67}}) {
        if (m > most || (m < most && !hone::test::takes_turn(m + turn, 3))) continue;
        std::vector<float> y(static_cast<size_t>(m * rows));
        packed_matmul(p.w, view(std::as_const(x).data(), m, cols), view(y.data(), m, rows));
        if (all.empty()) all = y;
        INFO(static_cast<int>(layout), " ", static_cast<int>(element), " ", group, " ", m, " ", name_of(level));
        CHECK(std::memcmp(y.data(), all.data(), y.size() * sizeof(float)) == 0);
      }
    }
  });
}

TEST_CASE("matrices of one process round activations each in its own way, also in one loop") {
  const Threads restored(threads());
  const int64_t m = 5, rows = 130, cols = 300;
  const std::vector<float> x = random_rows(m, cols);
  const auto rounding_to = [](F32Activations how, int bits) {
    const MadeRounding scope(how, bits);
    return make(PackedLayout::panels, element_named("int8"), rows, cols, 32);
  };
  const Packed exact = rounding_to(F32Activations::exact, 16), sixteen = rounding_to(F32Activations::integers, 16),
               eight = rounding_to(F32Activations::integers, 8);
  const Reference want = reference(exact, x, m, 32);
  for (const Isa level : hone::test::isa_levels_tested()) {
    const Level scope(level);
    INFO(name_of(level));
    std::vector<std::vector<float>> alone, together(3, std::vector<float>(static_cast<size_t>(m * rows)));
    std::vector<PackedProduct> products;
    for (const Packed* p : {&exact, &sixteen, &eight}) {
      alone.push_back(multiply(*p, x, m));
      products.push_back({p->w, view(x.data(), m, cols), view(together[products.size()].data(), m, rows)});
    }
    CHECK(worst(want, alone[1]) < integer_tolerance);
    CHECK(worst(want, alone[2]) > integer_tolerance);
    CHECK(worst(want, alone[2]) < tolerance_8);
    packed_matmul_each(products);
    CHECK(together == alone);
  }
}
