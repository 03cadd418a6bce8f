// Recomputation, and sums of terms.
#include <doctest/doctest.h>

#include "autograd/autograd.h"
#include "support/check.h"

using namespace hone;
using namespace hone::test;

namespace {

// y = a * b, element by element; counts how often it runs.
struct Times {
  int runs = 0;
  Var operator()(const Var& a, const Var& b) {
    ++runs;
    const auto product = [](const Tensor& x, const Tensor& y) {
      const Tensor z = Tensor::empty(x.shape());
      for (int64_t i = 0; i < z.size(); ++i) z.data<float>()[i] = x.data<float>()[i] * y.data<float>()[i];
      return z;
    };
    const bool recorded = Tape::recording() && (a.wants_grad() || b.wants_grad());
    const Var y(product(a.value(), b.value()), recorded);
    if (recorded)
      Tape::record([a, b, y, product] {
        const Tensor dy = y.take_grad();
        a.add_grad(product(dy, b.value()));
        b.add_grad(product(dy, a.value()));
      });
    return y;
  }
};

Tensor ones() {
  return Tensor::of({3}, {1, 1, 1});
}

}  // namespace

TEST_CASE("recomputed values and gradients have the bits of those that were kept") {
  const Tensor a = random_tensor({3}, 1), b = random_tensor({3}, 2);
  const auto gradients = [&](bool recomputed, int expected_runs) {
    const Var x(a, true), y(b, true);
    Times times;
    const Recomputed f = [&](const std::vector<Var>& in, bool) -> std::vector<Var> {
      const Var xy = times(in[0], in[1]);
      return {times(xy, in[0]), xy};
    };
    Tape tape;
    const std::vector<Var> out = recomputed ? recompute(f, {x, y}) : f({x, y}, false);
    CHECK(out[0].wants_grad());
    if (recomputed) CHECK(tape.steps() == 1);
    const Var last = times(out[0], out[1]);
    tape.backward({{last, ones()}});
    CHECK(times.runs == expected_runs);
    return std::vector<Tensor>{last.value(), x.grad(), y.grad()};
  };
  const auto kept = gradients(false, 3), again = gradients(true, 5);
  for (size_t i = 0; i < kept.size(); ++i) CHECK(relative_error(again[i], kept[i]) == 0.0);
}

TEST_CASE("a second run is told that it is one, and none happens without a tape") {
  std::vector<bool> calls;
  const Recomputed f = [&](const std::vector<Var>& in, bool again) -> std::vector<Var> {
    calls.push_back(again);
    return {Times()(in[0], in[0])};
  };
  const Var x(random_tensor({3}, 1), true);
  recompute(f, {x});
  CHECK(calls == std::vector<bool>{false});
  Tape tape;
  tape.backward({{recompute(f, {x})[0], ones()}});
  CHECK(calls == std::vector<bool>{false, false, true});
}

TEST_CASE("inputs that want no gradient get none; empty ones and outputs that nothing uses are allowed") {
  Times times;
  const Var x(random_tensor({3}, 1), true), constant(random_tensor({3}, 2));
  const Recomputed f = [&](const std::vector<Var>& in, bool) -> std::vector<Var> {
    CHECK(!in[2]);
    return {times(in[0], in[1]), Var(), times(in[0], in[0])};
  };
  Tape tape;
  const std::vector<Var> out = recompute(f, {x, constant, Var()});
  REQUIRE(out.size() == 3);
  CHECK(!out[1]);
  tape.backward({{out[0], ones()}});
  CHECK(relative_error(x.grad(), constant.value()) == 0.0);
  CHECK(!constant.grad());
}

TEST_CASE("recomputation nests, and its gradients add to those of other uses") {
  Times times;
  const Var x(Tensor::of({3}, {2, 3, 5}), true);
  const Recomputed inner = [&](const std::vector<Var>& in, bool) -> std::vector<Var> { return {times(in[0], in[0])}; };
  const Recomputed outer = [&](const std::vector<Var>& in, bool) -> std::vector<Var> {
    return {times(recompute(inner, in)[0], in[0])};
  };
  Tape tape;
  const Var cube = recompute(outer, {x})[0];
  tape.backward({{times(cube, x), ones()}});  // x^4
  CHECK(relative_error(x.grad(), Tensor::of({3}, {32, 108, 500})) < 1e-6);
}

TEST_CASE("a sum of terms has each term's gradient times its weight") {
  Times times;
  const Var x(Tensor::of({1}, {3}), true), y(Tensor::of({1}, {5}), true);
  Tape tape;
  const std::vector<LossTerm> terms = {{"square", times(x, x), 0.5f}, {"product", times(x, y), 2}};
  tape.backward(terms);
  CHECK(x.grad().data<float>()[0] == 0.5f * 6 + 2 * 5);
  CHECK(y.grad().data<float>()[0] == 2 * 3);
}
