#include "ops/place.h"

#include "support/check.h"

using namespace hone;
using namespace hone::ops;
using namespace hone::test;

namespace {

struct Pieces {
  Var a{random_tensor({3, 5}, 1), true}, b{random_tensor({2, 5}, 2), true};
  Parameter table, other;
  Pieces() {
    table.value = random_tensor({4, 5}, 3);
    other.value = random_tensor({2, 5}, 4);
  }
  Var placed() {
    return place(8, 5,
                 {{a, {6, 0, 3}},
                  {b, {1, 2}, {{&table, {3, 3}}, {&other, {1, 0}}}},
                  {Var(), {4, 7}, {{&other, {0, 1}}}},
                  {Var(), {0, 1, 2, 3, 4, 5, 6, 7}, {{&table, {0, 1, 2, 3, 0, 1, 2, 3}}}}});
  }
};

}  // namespace

TEST_CASE("placed rows stand where they are put, with what is added to them") {
  Pieces p;
  const Tensor y = p.placed().value();
  const auto at = [](const Tensor& t, int64_t row) { return t.data<float>()[row * 5 + 2]; };
  const Tensor &table = p.table.value, &other = p.other.value;
  CHECK(at(y, 6) == doctest::Approx(at(p.a.value(), 0) + at(table, 2)));
  CHECK(at(y, 0) == doctest::Approx(at(p.a.value(), 1) + at(table, 0)));
  CHECK(at(y, 2) == doctest::Approx(at(p.b.value(), 1) + at(table, 3) + at(other, 0) + at(table, 2)));
  CHECK(at(y, 7) == doctest::Approx(at(other, 1) + at(table, 3)));
  CHECK(at(y, 5) == doctest::Approx(at(table, 1)));
}

TEST_CASE("gradients of placed rows and of tables are those of finite differences") {
  Pieces p;
  const std::vector<Tensor> numbers = {p.a.value(), p.b.value(), p.table.value, p.other.value};
  check_gradients([&] { return p.placed(); }, numbers,
                  [&](size_t i) {
                    return i == 0 ? p.a.grad() : i == 1 ? p.b.grad() : i == 2 ? p.table.grad : p.other.grad;
                  },
                  1e-3);
}

TEST_CASE("so many rows that threads share them stand where they are put, too") {
  constexpr int64_t rows = 1500, dim = 40;
  const Tensor from = random_tensor({rows, dim}, 5);
  Parameter table;
  table.value = random_tensor({3, dim}, 6);
  std::vector<int32_t> at, of_table;
  for (int32_t i = 0; i < rows; ++i) {
    at.push_back((i * 7) % static_cast<int32_t>(rows));
    of_table.push_back(i % 3);
  }
  const Tensor y = place(rows, dim, {{Var(from), at, {{&table, of_table}}}}).value();
  bool right = true;
  for (size_t i = 0; i < at.size(); ++i)
    for (int64_t c = 0; c < dim; ++c)
      right = right && y.data<float>()[at[i] * dim + c] == from.data<float>()[static_cast<int64_t>(i) * dim + c] +
                                                               table.value.data<float>()[of_table[i] * dim + c];
  CHECK(right);
}

TEST_CASE("rows of bf16 are placed as f32 and get their gradient back in their own type") {
  const Var x(random_tensor({2, 5}, 7).to(DType::bf16), true);
  Tape tape;
  const Var y = place(3, 5, {{x, {2, 0}}});
  CHECK(y.value().dtype() == DType::f32);
  tape.backward(y, random_tensor({3, 5}, 8));
  CHECK(x.grad().dtype() == DType::bf16);
}
