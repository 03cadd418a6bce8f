#include "ops/kinds.h"

#include "fixtures/fixture.h"
#include "support/check.h"

using namespace hone;
using namespace hone::ops;
using namespace hone::test;

namespace {

const Fixture& reference() {
  static const Fixture fixture("alignment");
  return fixture;
}

Parameter parameter_of(Tensor value) {
  Parameter p;
  p.value = std::move(value);
  return p;
}

}  // namespace

TEST_CASE("gains by kind equal PyTorch's, and a kind without rows has no gradient") {
  const Var x(reference().tensor("gain_by_kind/x"), true);
  const Tensor kinds = reference().tensor("gain_by_kind/kinds"), gain = reference().tensor("gain_by_kind/gain"),
               bias = reference().tensor("gain_by_kind/bias");
  std::vector<Parameter> gains(4), biases(4);
  std::vector<Parameter*> all_gains, all_biases;
  for (size_t k = 0; k < 4; ++k) {
    const auto row = static_cast<int64_t>(std::min<size_t>(k, 2));
    gains[k].value = gain.rows(row, 1).reshape({20}).clone();
    biases[k].value = bias.rows(row, 1).reshape({20}).clone();
    all_gains.push_back(&gains[k]);
    all_biases.push_back(&biases[k]);
  }
  Tape tape;
  const Var y = gain_by_kind(x, {kinds.span<int32_t>().begin(), kinds.span<int32_t>().end()}, all_gains, all_biases);
  CHECK(relative_error(y.value(), reference().tensor("gain_by_kind/y")) < 1e-6);
  tape.backward(y, reference().tensor("gain_by_kind/dy"));
  CHECK(relative_error(x.grad(), reference().tensor("gain_by_kind/dx")) < 1e-6);
  for (size_t k = 0; k < 3; ++k) {
    const auto row = static_cast<int64_t>(k);
    CHECK(relative_error(gains[k].grad, reference().tensor("gain_by_kind/dgain").rows(row, 1)) < 1e-5);
    CHECK(relative_error(biases[k].grad, reference().tensor("gain_by_kind/dbias").rows(row, 1)) < 1e-5);
  }
  CHECK(!gains[3].has_grad);
}

TEST_CASE("gradients of gains by kind are those of finite differences") {
  const Var x(random_tensor({5, 3}, 2), true);
  Parameter a = parameter_of(random_tensor({3}, 3)), b = parameter_of(random_tensor({3}, 4)),
            c = parameter_of(random_tensor({3}, 5)), d = parameter_of(random_tensor({3}, 6));
  check_gradients(
      [&] {
        return gain_by_kind(x, {1, 0, 1, 1, 0}, {&a, &b}, {&c, &d});
      },
      {x.value(), a.value, b.value, c.value, d.value},
      [&](size_t i) {
        return i == 0 ? x.grad() : (std::vector{&a, &b, &c, &d}[i - 1])->grad;
      },
      1e-3);
}
