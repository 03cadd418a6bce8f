// Weights that compute with other values than are trained: products, gradients, and what is stored.
#include "weights/computed_weight.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "support/check.h"
#include "weights/packed_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr int64_t rows = 70, cols = 80, group = 32;

QuantizedMatrix some_integers(const char* element) {
  QuantizedMatrix m{rows,
                    cols,
                    group,
                    *kernels::find_element(element),
                    Tensor::empty({rows, cols}, DType::i8),
                    Tensor::empty({rows, 3}),
                    {}};
  Random random(4, "integers");
  const auto& info = kernels::info_of(m.element);
  for (int8_t& q : m.integers.span<int8_t>()) {
    const int code = static_cast<int>(random.below(static_cast<uint64_t>(info.codes())));
    q = static_cast<int8_t>(std::clamp(info.integer_of(code), info.lowest, info.highest));
  }
  for (float& s : m.scales.span<float>()) s = to_float(to_bf16(static_cast<float>(random.normal()) * 0.1f));
  m.scales.data<float>()[5] = 0;
  for (int64_t c = 64; c < cols; ++c) m.integers.data<int8_t>()[cols + c] = 0;  // of the group whose scale is 0
  return m;
}

}  // namespace

TEST_CASE("a packed matrix gives its integers and scales back, and packs to the same bytes") {
  for (const char* element : {"int8", "int4", "nf4", "int3", "int2", "ternary"}) {
    CAPTURE(element);
    const QuantizedMatrix m = some_integers(element);
    const auto packed = pack_integers(m);
    const QuantizedMatrix back = unpack_integers(*packed);
    CHECK(relative_error(back.scales, m.scales) == 0);
    CHECK(relative_error(dequantize(back), dequantize(m)) == 0);
    const Encoded a = packed->encode(), b = pack_integers(back)->encode();
    for (const auto& [name, array] : a.arrays) {
      REQUIRE(array.bytes() == b.arrays.at(name).bytes());
      CHECK(std::equal(array.raw(), array.raw() + array.bytes(), b.arrays.at(name).raw()));
    }
  }
}

TEST_CASE("trained scales: products of integers and scales, and the gradient of each factor by finite differences") {
  ScaledWeight weight(some_integers("int4"));
  const Tensor x = random_tensor({5, cols}, 1), dy = random_tensor({5, rows}, 2), y = Tensor::empty({5, rows});
  const Tensor expected = Tensor::empty({5, rows}), dx = Tensor::empty({5, cols}),
               expected_dx = Tensor::empty({5, cols});
  weight.matmul(x.view(), y.view());
  weight.matmul_dx(dy.view(), dx.view());
  DenseWeight dense(dequantize(some_integers("int4")));
  dense.matmul(x.view(), expected.view());
  dense.matmul_dx(dy.view(), expected_dx.view());
  CHECK(relative_error(y, expected) == 0);
  CHECK(relative_error(dx, expected_dx) == 0);
  weight.add_dw(dy.view(), x.view());
  weight.add_dw(dy.view(), x.view());  // adds
  const QuantizedMatrix m = some_integers("int4");
  const Tensor numeric = Tensor::zeros({rows, 3});
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      double dw = 0;
      for (int64_t i = 0; i < 5; ++i)
        dw += static_cast<double>(dy.data<float>()[i * rows + r]) * static_cast<double>(x.data<float>()[i * cols + c]);
      const int64_t g = r * 3 + c / group;
      numeric.data<float>()[g] += static_cast<float>(2 * dw * m.integers.data<int8_t>()[r * cols + c] *
                                                     static_cast<double>(m.scales.data<float>()[g]));
    }
  CHECK(relative_error(weight.parameter()->grad, numeric) < 1e-5);
  // A factor of 2 doubles its group, exactly: products follow, and so does what is stored.
  weight.parameter()->value.data<float>()[0] = 2;
  ++weight.parameter()->version;
  const Tensor before = dequantize(m), now = weight.to_dense();
  for (int64_t c = 0; c < cols; ++c) CHECK(now.data<float>()[c] == (c < group ? 2.0f : 1.0f) * before.data<float>()[c]);
  weight.matmul(x.view(), y.view());
  pack_integers(weight.matrix())->matmul(x.view(), expected.view());
  CHECK(relative_error(y, expected) < 1e-5);
}

TEST_CASE("straight through: products of rounded values, gradients and storage of the master") {
  const Tensor values = random_tensor({6, 8}, 1);
  const auto round = [](const Tensor& t, const Bitmask&) {
    const Tensor rounded = Tensor::empty(t.shape());
    for (int64_t i = 0; i < t.size(); ++i) rounded.data<float>()[i] = std::round(t.data<float>()[i]);
    return rounded;
  };
  const auto active = std::make_shared<std::atomic<bool>>(false);
  const auto master = std::make_shared<DenseWeight>(values.clone());
  StraightThroughWeight weight(master, round, active);
  const Tensor x = random_tensor({3, 8}, 2), dy = random_tensor({3, 6}, 3);
  const auto product = [&](const Weight& of) {
    const Tensor y = Tensor::empty({3, 6});
    of.matmul(x.view(), y.view());
    return y;
  };
  CHECK(relative_error(product(weight), product(DenseWeight(values))) == 0);
  *active = true;
  CHECK(relative_error(product(weight), product(DenseWeight(round(values, {})))) == 0);
  weight.add_dw(dy.view(), x.view());
  CHECK(master->parameter()->has_grad);
  for (float& w : master->parameter()->value.span<float>()) w += 1;
  ++master->parameter()->version;
  CHECK(relative_error(product(weight), product(DenseWeight(round(master->to_dense(), {})))) == 0);
  CHECK(relative_error(weight.encode().arrays.at("values"), master->to_dense()) == 0);
  CHECK(weight.form() == "dense");
}
