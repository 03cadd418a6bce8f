// Linear layers whose products are in 8 bits, beside the same in f32 and bf16.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "kernels/rows/elementwise.h"
#include "ops/linear.h"
#include "ops/mixture.h"
#include "support/check.h"
#include "support/masks.h"
#include "weights/computed_weight.h"
#include "weights/packed_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

constexpr int64_t rows_of_x = 33, inputs = 200, outputs = 70;

// Whole numbers / 128 with the largest, 127, in each row and column: exact as integers with a scale, by either.
Tensor whole_numbers() {
  const Tensor w = Tensor::empty({outputs, inputs});
  Random random(4, "whole numbers");
  for (int64_t r = 0; r < outputs; ++r)
    for (int64_t c = 0; c < inputs; ++c) {
      const bool edge = r == 0 || c == 0;
      w.data<float>()[r * inputs + c] =
          (edge ? 127.0f : static_cast<float>(static_cast<int>(random.below(253)) - 126)) / 128;
    }
  return w;
}

struct Gradients {
  Tensor y, dx, dw, dbias;
};

// The gradients where those of y are the numbers of seed 7.
Gradients gradients_of(const std::shared_ptr<Weight>& weight, const Tensor& x,
                       std::optional<ops::EightBits> eight_bits) {
  Parameter bias;
  bias.value = random_tensor({outputs}, 3);
  Tape tape;
  const Var input(x, true);
  const Var y = ops::linear(input, weight, &bias, false, eight_bits);
  Gradients g;
  g.y = y.value().clone();
  tape.backward(y, random_tensor({rows_of_x, outputs}, 7).to(x.dtype()));
  g.dx = input.take_grad();
  g.dw = weight->parameter()->grad.clone();
  g.dbias = bias.grad;
  weight->parameter()->has_grad = false;
  return g;
}

double mean_size(const Tensor& t) {
  const Tensor f = t.to(DType::f32);
  double sum = 0;
  for (const float v : f.span<float>()) sum += static_cast<double>(v) * static_cast<double>(v);
  return std::sqrt(sum / static_cast<double>(f.size()));
}

// Of the difference, over the root of the mean square of b.
double error_of(const Tensor& a, const Tensor& b) {
  const Tensor difference = a.to(DType::f32).clone(), other = b.to(DType::f32);
  for (int64_t i = 0; i < other.size(); ++i) difference.data<float>()[i] -= other.data<float>()[i];
  return mean_size(difference) / mean_size(other);
}

}  // namespace

TEST_CASE("linear in 8 bits: output and input gradient near those of f32, the weight's own gradient the same bits") {
  at_every_isa([] {
    for (const DType type : {DType::f32, DType::bf16}) {
      const Tensor x = random_tensor({rows_of_x, inputs}, 1).to(type);
      const auto weight = std::make_shared<DenseWeight>(random_tensor({outputs, inputs}, 2));
      const Gradients plain = gradients_of(weight, x, {}), eight = gradients_of(weight, x, ops::EightBits{5});
      const Gradients exact = gradients_of(weight, x.to(DType::f32), {});
      CAPTURE(static_cast<int>(type));
      CHECK(error_of(eight.y, exact.y) < 0.02);
      CHECK(error_of(eight.y, exact.y) > 0.004);  // 8 bits they are
      CHECK(error_of(eight.dx, exact.dx) < 0.025);
      CHECK(relative_error(eight.dw, plain.dw) == 0.0);
      CHECK(relative_error(eight.dbias, plain.dbias) == 0.0);
      // The same seed draws the same; the output has no draws.
      const Gradients again = gradients_of(weight, x, ops::EightBits{5}),
                      other = gradients_of(weight, x, ops::EightBits{6});
      CHECK(relative_error(again.dx, eight.dx) == 0.0);
      CHECK(relative_error(other.dx, eight.dx) > 0.0);
      CHECK(relative_error(other.y, eight.y) == 0.0);
    }
  });
}

TEST_CASE("linear in 8 bits: the mean input gradient of many draws is the exact one") {
  const Tensor x = random_tensor({rows_of_x, inputs}, 1);
  const auto weight = std::make_shared<DenseWeight>(whole_numbers());
  const Tensor exact = gradients_of(weight, x, {}).dx;
  constexpr int draws = 64;
  const Tensor mean = Tensor::zeros({rows_of_x, inputs});
  double of_one = 0;
  for (uint64_t seed = 0; seed < draws; ++seed) {
    const Tensor dx = gradients_of(weight, x, ops::EightBits{mix64(seed)}).dx;
    of_one = error_of(dx, exact);
    for (int64_t i = 0; i < mean.size(); ++i) mean.data<float>()[i] += dx.data<float>()[i] / draws;
  }
  CHECK(of_one > 0.004);
  CHECK(error_of(mean, exact) < of_one / 5);  // an eighth is expected
}

TEST_CASE("linear in 8 bits: with masks, through a rounding, and of forms that do not train") {
  const Tensor x = random_tensor({rows_of_x, inputs}, 1).to(DType::bf16);
  const Tensor values = random_tensor({outputs, inputs}, 2), pruned = values.clone();
  for (float& v : pruned.span<float>()) v = std::abs(v) < 0.7f ? 0.0f : v;
  const auto masked = std::make_shared<DenseWeight>(values.clone(), mask_of_nonzeros(pruned));
  const auto zeros = std::make_shared<DenseWeight>(masked->to_dense().clone());
  const ops::EightBits eight{5};
  const Gradients a = gradients_of(masked, x, eight), b = gradients_of(zeros, x, eight);
  CHECK(relative_error(a.y, b.y) == 0.0);
  CHECK(relative_error(a.dx, b.dx) == 0.0);
  // A changed master is packed anew.
  kernels::scale(zeros->parameter()->value.view(), 2.0f);
  ++zeros->parameter()->version;
  CHECK(relative_error(gradients_of(zeros, x, eight).dx, a.dx) > 0.1);

  const auto half = [](const Tensor& v, const Bitmask&) {
    const Tensor r = v.clone();
    kernels::scale(r.view(), 0.5f);
    return r;
  };
  const auto active = std::make_shared<std::atomic<bool>>(true);
  const auto dense = std::make_shared<DenseWeight>(values.clone());
  const auto through = std::make_shared<StraightThroughWeight>(dense, half, active);
  const auto halves = std::make_shared<DenseWeight>(half(values, {}));
  CHECK(relative_error(gradients_of(through, x, eight).y, gradients_of(halves, x, eight).y) == 0.0);

  const Var input(x);
  const std::shared_ptr<Weight> packed = pack_bf16(values, {});
  CHECK(relative_error(ops::linear(input, packed, nullptr, false, eight).value(), ops::linear(input, packed).value()) ==
        0.0);
}

TEST_CASE("grouped products in 8 bits are those of each expert's rows, gradients with draws of their own") {
  auto plan = std::make_shared<ops::RoutePlan>();
  plan->rows = plan->slots = rows_of_x;
  plan->top_k = 1;
  plan->offsets = {0, 10, 10, rows_of_x};
  const Tensor x = random_tensor({rows_of_x, inputs}, 1).to(DType::bf16);
  std::vector<ops::ExpertLinear> layers;
  const auto shared = std::make_shared<DenseWeight>(random_tensor({outputs, inputs}, 2));
  for (int e = 0; e < 3; ++e) layers.push_back({shared, nullptr});
  const ops::EightBits eight{5};
  Tape tape;
  const Var input(x, true);
  const Var y = ops::grouped_linear(input, plan, layers, eight);
  CHECK(relative_error(y.value(), ops::linear(Var(x), shared, nullptr, false, eight).value()) == 0.0);
  // The same gradient in every row: rows of one number in different experts differ by their draws alone.
  const Tensor one = random_tensor({1, outputs}, 7).to(DType::bf16), dy = Tensor::empty(y.shape(), DType::bf16);
  for (int64_t r = 0; r < rows_of_x; ++r) std::copy_n(one.data<bf16>(), outputs, dy.data<bf16>() + r * outputs);
  tape.backward(y, dy);
  const Tensor dx = input.take_grad();
  CHECK(relative_error(dx.rows(0, 1), dx.rows(10, 1)) > 0.0);
  CHECK(error_of(dx.rows(0, 1), dx.rows(10, 1)) < 0.05);
}
