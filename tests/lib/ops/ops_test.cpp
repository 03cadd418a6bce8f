// Every op: gradients against central differences, at every instruction set; bf16 against f32.
#include <doctest/doctest.h>

#include <algorithm>

#include "kernels/rows/elementwise.h"
#include "ops/activation.h"
#include "ops/cross_entropy.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "support/check.h"
#include "weights/dense_weight.h"

using namespace hone;
using namespace hone::test;

namespace {

Parameter parameter_of(Tensor value) {
  Parameter p;
  p.value = std::move(value);
  return p;
}

}  // namespace

TEST_CASE("linear: gradients of input, weight and bias") {
  at_every_isa([] {
    const Tensor x = random_tensor({5, 7}, 1);
    const auto weight = std::make_shared<DenseWeight>(random_tensor({6, 7}, 2));
    Parameter bias = parameter_of(random_tensor({6}, 3));
    Var input(x, true);
    check_gradients([&] { return ops::linear(input, weight, &bias); }, {x, weight->parameter()->value, bias.value},
                    [&](size_t i) { return i == 0   ? input.grad()
                                           : i == 1 ? weight->parameter()->grad
                                                    : bias.grad; },
                    1e-3);
  });
}

TEST_CASE("linear: a second product adds to the gradient of the weight") {
  const auto weight = std::make_shared<DenseWeight>(random_tensor({3, 4}, 2));
  const Var x(random_tensor({2, 4}, 1));
  const Tensor dy = random_tensor({2, 3}, 5);
  weight->add_dw(dy.view(), x.value().view());
  const Tensor once = weight->parameter()->grad.clone();
  weight->add_dw(dy.view(), x.value().view());
  kernels::add(once.view(), once.view());
  CHECK(relative_error(weight->parameter()->grad, once) < 1e-6);
}

TEST_CASE("embedding: gradients of table and positions, with repeated ids") {
  at_every_isa([] {
    const auto table = std::make_shared<DenseWeight>(random_tensor({4, 5}, 1));
    Parameter positions = parameter_of(random_tensor({3, 5}, 2));
    const std::vector<int32_t> ids = {2, 0, 2, 3}, places = {0, 1, 2, 0};
    check_gradients([&] { return ops::embedding(ids, table, places, &positions); },
                    {table->parameter()->value, positions.value},
                    [&](size_t i) { return i == 0 ? table->parameter()->grad : positions.grad; }, 1e-3);
  });
}

TEST_CASE("norms: gradients of residual, branch, gain and bias, through both outputs") {
  at_every_isa([] {
    for (ops::NormFunction* norm : {ops::add_rms_norm, ops::add_layer_norm}) {
      CAPTURE(norm == ops::add_layer_norm);
      const Tensor r = random_tensor({4, 9}, 1), b = random_tensor({4, 9}, 2);
      Parameter gain = parameter_of(random_tensor({9}, 3)), bias = parameter_of(random_tensor({9}, 4));
      Var residual(r, true), branch(b, true);
      // The sum flows on and is normalized again, so that its gradient has two parts.
      check_gradients(
          [&] {
            const ops::Normed first = norm(residual, branch, gain, &bias, 1e-5f, DType::f32);
            return norm(first.residual, first.y, gain, &bias, 1e-5f, DType::f32).y;
          },
          {r, b, gain.value, bias.value},
          [&](size_t i) {
            return i == 0 ? residual.grad() : i == 1 ? branch.grad() : i == 2 ? gain.grad : bias.grad;
          },
          3e-3, 3e-3f);
    }
  });
}

TEST_CASE("activations: gradients") {
  at_every_isa([] {
    const Tensor x = random_tensor({3, 14}, 1);
    Var input(x, true);
    check_gradients([&] { return ops::swiglu(input); }, {x}, [&](size_t) { return input.take_grad(); }, 2e-3);
    check_gradients([&] { return ops::gelu(input); }, {x}, [&](size_t) { return input.take_grad(); }, 2e-3);
    check_gradients([&] { return ops::gelu_erf(input); }, {x}, [&](size_t) { return input.take_grad(); }, 2e-3);
  });
}

TEST_CASE("rope: undone by its own gradient, and relative") {
  at_every_isa([] {
    const ops::RopeTable table = ops::RopeTable::make(20, 8, 10000);
    const std::vector<int32_t> positions = {3, 11};
    const Tensor x = random_tensor({2, 24}, 1);
    Tape tape;
    Var input(x.clone(), true);
    const Var y = ops::rope(input, 2, 8, positions, table);
    // Rotations are orthogonal: pulling the output back gives the input; columns beyond the two heads are untouched.
    const Tensor rotated = y.value().clone();
    tape.backward(y, rotated.clone());
    CHECK(relative_error(input.grad(), x) < 1e-5);
    CHECK(relative_error(rotated, x) > 0.1);
    for (int i = 16; i < 24; ++i) CHECK(rotated.data<float>()[i] == x.data<float>()[i]);
  });
}

TEST_CASE("dropout: keeps the mean, drops the rate, repeats its mask in the backward pass") {
  at_every_isa([] {
    const Tensor ones = Tensor::empty({200, 300});
    for (float& v : ones.span<float>()) v = 1;
    Tape tape;
    Var input(ones.clone(), true);
    const Var y = ops::dropout(input, 0.25f, 42);
    int64_t dropped = 0;
    for (float v : y.value().span<float>()) {
      dropped += v == 0.0f;
      CHECK_MESSAGE((v == 0.0f || std::abs(v - 1.0f / 0.75f) < 1e-6f), v);
    }
    CHECK(static_cast<double>(dropped) / 60000 == doctest::Approx(0.25).epsilon(0.03));
    const Tensor kept = y.value().clone();
    tape.backward(y, ones.clone());
    CHECK(relative_error(input.grad(), kept) == 0.0);
  });
}

namespace {

// Of value() by each number.
Tensor differences(const Tensor& numbers, const std::function<double()>& value) {
  const Tensor result = Tensor::empty(numbers.shape());
  for (int64_t i = 0; i < numbers.size(); ++i) {
    float& n = numbers.data<float>()[i];
    const float kept = n;
    n = kept + 1e-2f;
    const double above = value();
    n = kept - 1e-2f;
    result.data<float>()[i] = static_cast<float>((above - value()) / 0.02);
    n = kept;
  }
  return result;
}

}  // namespace

TEST_CASE("cross_entropy_head: loss, correct counts and gradients; padding and unscored rows take no part") {
  at_every_isa([] {
    const Tensor x = random_tensor({6, 5}, 1);
    const auto head = std::make_shared<DenseWeight>(random_tensor({9, 5}, 2));  // 7 tokens, 2 rows of padding
    const std::vector<int32_t> targets = {0, 6, -1, 3, 3, 2};
    Var input(x, true);
    Tensor d_head;
    {
      Tape tape;
      const auto result = ops::cross_entropy_head(input, {head, 7}, targets);
      double expected = 0;
      for (size_t r = 0; r < 6; ++r) {
        if (targets[r] < 0) continue;
        double logits[7], sum = 0;
        for (int v = 0; v < 7; ++v) {
          logits[v] = 0;
          for (int c = 0; c < 5; ++c)
            logits[v] += static_cast<double>(x.data<float>()[r * 5 + static_cast<size_t>(c)]) *
                         static_cast<double>(head->parameter()->value.data<float>()[v * 5 + c]);
          sum += std::exp(logits[v]);
        }
        expected += std::log(sum) - logits[targets[r]];
        CHECK(result.correct[r] == (std::max_element(logits, logits + 7) - logits == targets[r]));
      }
      CHECK(static_cast<double>(result.term.value.value().data<float>()[0]) ==
            doctest::Approx(expected / 5).epsilon(1e-5));
      tape.backward(std::span(&result.term, 1));
      d_head = head->parameter()->grad.clone();
    }
    const auto value = [&] {
      return static_cast<double>(
          ops::cross_entropy_head(Var(x), {head, 7}, targets).term.value.value().data<float>()[0]);
    };
    CHECK(relative_error(input.grad(), differences(x, value)) < 2e-3);
    CHECK(relative_error(d_head, differences(head->parameter()->value, value)) < 2e-3);
  });
}

TEST_CASE("cross_entropy_head: a soft cap, the square of log Z and weights of rows, by value and by gradient") {
  at_every_isa([] {
    const Tensor x = random_tensor({6, 5}, 1);
    const auto weight = std::make_shared<DenseWeight>(random_tensor({9, 5}, 2));
    const ops::Head head = {weight, 7, 1.5f};  // logits of up to 3 or so
    const std::vector<int32_t> targets = {0, 6, -1, 3, 3, 2};
    const std::vector<float> rows = {1, 0.5f, 1, 2, 0, 1};
    const ops::TokenLossWeights weights = {0.7f, 0.3f, rows};
    double loss = 0, squares = 0;
    for (size_t r = 0; r < 6; ++r) {
      if (targets[r] < 0) continue;
      double logits[7], sum = 0;
      for (int v = 0; v < 7; ++v) {
        double dot = 0;
        for (int c = 0; c < 5; ++c)
          dot += static_cast<double>(x.data<float>()[r * 5 + static_cast<size_t>(c)]) *
                 static_cast<double>(weight->parameter()->value.data<float>()[v * 5 + c]);
        logits[v] = 1.5 * std::tanh(dot / 1.5);
        sum += std::exp(logits[v]);
      }
      loss += static_cast<double>(rows[r]) * (std::log(sum) - logits[targets[r]]) / 4.5;
      squares += static_cast<double>(rows[r]) * std::log(sum) * std::log(sum) / 4.5;
    }
    Var input(x, true);
    Tape tape;
    const auto result = ops::cross_entropy_head(input, head, targets, weights);
    CHECK(static_cast<double>(result.term.value.value().data<float>()[0]) == doctest::Approx(loss).epsilon(1e-5));
    CHECK(static_cast<double>(result.z_term.value.value().data<float>()[0]) == doctest::Approx(squares).epsilon(1e-5));
    CHECK(result.term.weight == 0.7f);
    CHECK(result.z_term.weight == 0.3f * 0.7f);
    const std::vector<LossTerm> terms = {result.term, result.z_term};
    tape.backward(terms);
    const Tensor d_head = weight->parameter()->grad.clone();
    const auto value = [&] {
      const NoTape pause;
      const auto of = ops::cross_entropy_head(Var(x), head, targets, weights);
      return 0.7 * static_cast<double>(of.term.value.value().data<float>()[0]) +
             0.21 * static_cast<double>(of.z_term.value.value().data<float>()[0]);
    };
    CHECK(relative_error(input.grad(), differences(x, value)) < 2e-3);
    CHECK(relative_error(d_head, differences(weight->parameter()->value, value)) < 2e-3);
  });
}

TEST_CASE("bf16 activations stay within bf16's rounding of f32") {
  at_every_isa([] {
    const Tensor x = random_tensor({33, 64}, 1);
    const auto weight = std::make_shared<DenseWeight>(random_tensor({70, 64}, 2, 0.2f));
    const Tensor exact = ops::linear(Var(x), weight).value();
    const Tensor rounded = ops::linear(Var(x.to(DType::bf16)), weight).value();
    CHECK(rounded.dtype() == DType::bf16);
    CHECK(relative_error(rounded, exact) < 1e-2);
    const Tensor dy = random_tensor({33, 70}, 3);
    const Tensor dx = Tensor::empty({33, 64}), dx_rounded = Tensor::empty({33, 64}, DType::bf16);
    weight->matmul_dx(dy.view(), dx.view());
    weight->matmul_dx(dy.to(DType::bf16).view(), dx_rounded.view());
    CHECK(relative_error(dx_rounded, dx) < 1e-2);
    weight->add_dw(dy.view(), x.view());
    const Tensor dw = weight->parameter()->grad.clone();
    weight->parameter()->has_grad = false;
    weight->add_dw(dy.to(DType::bf16).view(), x.to(DType::bf16).view());
    CHECK(relative_error(weight->parameter()->grad, dw) < 1e-2);
  });
}

TEST_CASE("recompute gives the same gradients as keeping everything") {
  const Tensor x = random_tensor({4, 6}, 1);
  const auto first = std::make_shared<DenseWeight>(random_tensor({8, 6}, 2)),
             second = std::make_shared<DenseWeight>(random_tensor({3, 4}, 3));
  // Two outputs, one of which is an input of the other; both count.
  const auto f = [&](const std::vector<Var>& in, bool) {
    const Var hidden = ops::swiglu(ops::linear(in[0], first));
    return std::vector<Var>{hidden, Var(), ops::linear(hidden, second)};
  };
  const auto gradients = [&](bool checkpoint) {
    first->parameter()->has_grad = second->parameter()->has_grad = false;
    Tape tape;
    const Var input(x, true);
    const std::vector<Var> y = checkpoint ? recompute(f, {input, Var()}) : f({input, Var()}, false);
    REQUIRE(y.size() == 3);
    CHECK_FALSE(y[1]);
    if (checkpoint) CHECK(tape.steps() == 1);
    tape.backward({{y[0], random_tensor({4, 4}, 6)}, {y[2], random_tensor({4, 3}, 7)}});
    return std::vector<Tensor>{input.grad(), first->parameter()->grad.clone(), second->parameter()->grad.clone()};
  };
  const auto kept = gradients(false), again = gradients(true);
  for (size_t i = 0; i < 3; ++i) CHECK(relative_error(again[i], kept[i]) == 0.0);
}
