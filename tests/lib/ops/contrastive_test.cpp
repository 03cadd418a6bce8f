#include "ops/contrastive.h"

#include <cmath>

#include "base/error.h"
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

std::vector<PooledRows> parts_of(const char* side) {
  std::vector<PooledRows> parts;
  for (const auto& part : reference().config().at(side)) parts.push_back({part.at(0), part.at(1)});
  return parts;
}

const std::pair<const char*, ContrastiveLoss> losses[] = {{"infonce", ContrastiveLoss::infonce},
                                                          {"siglip", ContrastiveLoss::siglip}};

Parameter parameter_of(Tensor value) {
  Parameter p;
  p.value = std::move(value);
  return p;
}

}  // namespace

TEST_CASE("contrastive losses, and their gradients by rows and scale, equal PyTorch's") {
  for (const auto& [name, loss] : losses) {
    CAPTURE(name);
    const std::string op = name;
    const Var x(reference().tensor(op + "/x"), true);
    Parameter scale = parameter_of(reference().tensor(op + "/scale"));
    Tape tape;
    const Var y = contrastive(x, parts_of("left"), parts_of("right"), scale, loss);
    CHECK(relative_error(y.value(), reference().tensor(op + "/y")) < 1e-5);
    tape.backward(y, reference().tensor(op + "/dy"));
    CHECK(relative_error(x.grad(), reference().tensor(op + "/dx")) < 1e-5);
    CHECK(relative_error(scale.grad, reference().tensor(op + "/dscale")) < 1e-5);
  }
}

TEST_CASE("contrastive gradients are those of finite differences, of rows of bf16 too") {
  for (const auto& [name, loss] : losses) {
    CAPTURE(name);
    const Var x(random_tensor({10, 4}, 3), true);
    Parameter scale = parameter_of(first_similarity_scale(loss));
    scale.value.data<float>()[0] = 0.8f;
    const std::vector<PooledRows> left = {{0, 2}, {2, 1}, {6, 2}}, right = {{3, 1}, {4, 2}, {8, 2}};
    check_gradients([&] { return contrastive(x, left, right, scale, loss); }, {x.value(), scale.value},
                    [&](size_t i) { return i == 0 ? x.grad() : scale.grad; }, 5e-3, 1e-2f);
    const auto gradient = [&](const Var& rows) {
      Tape tape;
      tape.backward(contrastive(rows, left, right, scale, loss));
      return rows.grad();
    };
    const Tensor narrow = gradient(Var(x.value().to(DType::bf16), true));
    CHECK(narrow.dtype() == DType::bf16);
    CHECK(relative_error(narrow, gradient(Var(x.value().clone(), true))) < 0.03);
  }
}

TEST_CASE("a scale at its most may fall and not rise") {
  Parameter scale = parameter_of(Tensor::of({2}, {6.0f, 0.0f}));  // exp(6) is above 100
  const std::vector<PooledRows> left = {{0, 1}, {1, 1}}, right = {{2, 1}, {3, 1}};
  const auto slope = [&](std::initializer_list<float> rows) {
    scale.has_grad = false;
    const Var x(Tensor::of({4, 2}, rows), true);
    Tape tape;
    tape.backward(contrastive(x, left, right, scale, ContrastiveLoss::infonce));
    return scale.grad.data<float>()[0];
  };
  CHECK(slope({1, 0, 1, 0.01f, 1, 0.001f, 1, 0.012f}) == 0);  // right already: a larger scale would be better
  CHECK(slope({1, 0, 0, 1, 0, 1, 1, 0}) > 0);                 // wrong: a smaller one
}

TEST_CASE("one pair is nothing to tell apart") {
  Parameter scale = parameter_of(first_similarity_scale(ContrastiveLoss::infonce));
  const Var x(random_tensor({4, 3}, 1), true);
  CHECK_THROWS_AS(
      contrastive(x, std::vector<PooledRows>{{0, 1}}, std::vector<PooledRows>{{1, 1}}, scale, ContrastiveLoss::infonce),
      Error);
}
