// The tape by itself: what is recorded, in which order it runs backward, and how gradients of shared values add up.
#include "autograd/autograd.h"

#include <doctest/doctest.h>

#include <memory>
#include <thread>

#include "kernels/rows/elementwise.h"
#include "support/check.h"
#include "support/stopping.h"

using namespace hone;
using namespace hone::test;

namespace {

Var number(float x, bool wants_grad = true) {
  return Var(Tensor::of({1}, {x}), wants_grad);
}

float value_of(const Var& x) {
  return x.value().data<float>()[0];
}

float gradient_of(const Var& x) {
  return x.grad() ? x.grad().data<float>()[0] : 0.0f;
}

Var times(const Var& a, const Var& b) {
  const bool recorded = Tape::recording() && (a.wants_grad() || b.wants_grad());
  const Var y = number(value_of(a) * value_of(b), recorded);
  if (recorded)
    Tape::record([a, b, y] {
      const float dy = y.take_grad().data<float>()[0];
      a.add_grad(Tensor::of({1}, {dy * value_of(b)}));
      b.add_grad(Tensor::of({1}, {dy * value_of(a)}));
    });
  return y;
}

Var plus(const Var& a, const Var& b) {
  const bool recorded = Tape::recording() && (a.wants_grad() || b.wants_grad());
  const Var y = number(value_of(a) + value_of(b), recorded);
  if (recorded)
    Tape::record([a, b, y] {
      const Tensor dy = y.take_grad();
      a.add_grad(dy.clone());
      b.add_grad(dy);
    });
  return y;
}

}  // namespace

TEST_CASE("steps run once, from the last to the first, and let go of what they hold as they go") {
  Tape tape;
  std::vector<int> order;
  const auto held = std::make_shared<int>(7);
  const std::weak_ptr<int> seen = held;
  const Var loss = number(1);
  Tape::record([&] {
    order.push_back(1);
    CHECK(seen.use_count() == 1);  // the test's own: the step behind is gone
  });
  Tape::record([&order, held] { order.push_back(2); });
  Tape::record([&] { order.push_back(3); });
  CHECK(tape.steps() == 3);
  CHECK(seen.use_count() == 2);
  tape.backward(loss);
  CHECK(order == std::vector<int>{3, 2, 1});
  CHECK(tape.steps() == 0);
  tape.backward(loss);
  CHECK(order.size() == 3);
}

TEST_CASE("what is recorded: where a tape lives, on its thread, and nothing pauses it") {
  CHECK(!Tape::recording());
  {
    Tape outer;
    CHECK(Tape::recording());
    {
      const NoTape pause;
      CHECK(!Tape::recording());
      Tape within;  // a tape in a pause records again
      CHECK(Tape::recording());
      Tape::record([] {});
      CHECK(within.steps() == 1);
    }
    CHECK(Tape::recording());
    {
      Tape inner;
      Tape::record([] {});
      CHECK(inner.steps() == 1);
    }
    CHECK(outer.steps() == 0);
    Tape::record([] {});
    CHECK(outer.steps() == 1);
    bool elsewhere = true;
    std::thread([&] { elsewhere = Tape::recording(); }).join();
    CHECK(!elsewhere);
  }
  CHECK(!Tape::recording());
}

TEST_CASE("a step of the backward pass records nothing") {
  Tape tape;
  bool recorded = true;
  Tape::record([&] { recorded = Tape::recording(); });
  tape.backward(number(1));
  CHECK(!recorded);
  CHECK(Tape::recording());
}

TEST_CASE("gradients of a value that is used several times add up") {
  Tape tape;
  const Var x = number(3), y = number(5);
  const Var xy = times(x, y);                                 // used twice
  const Var loss = plus(plus(times(xy, x), xy), plus(x, x));  // x^2 y + x y + 2 x
  CHECK(value_of(loss) == 66);
  tape.backward(loss);
  CHECK(gradient_of(x) == 2 * 3 * 5 + 5 + 2);
  CHECK(gradient_of(y) == 3 * 3 + 3);
}

TEST_CASE("a seed scales every gradient, and a second pass adds to what is there") {
  const Var x = number(3);
  for (const float seed : {0.5f, 2.0f}) {
    Tape tape;
    tape.backward(times(x, x), seed);
  }
  CHECK(gradient_of(x) == 2.5f * 6);
}

TEST_CASE("a control flow is the graph: what was not run has no part") {
  const auto gradient_at = [](float start) {
    const Var x = number(start);
    Tape tape;
    Var y = x;
    while (value_of(y) < 100) y = times(y, x);
    tape.backward(y);
    return gradient_of(x);
  };
  CHECK(gradient_at(5) == 3 * 25);  // 5^3
  CHECK(gradient_at(2) == 7 * 64);  // 2^7
  CHECK(gradient_at(200) == 1);
}

TEST_CASE("values that want no gradient get none, and what depends on them alone is not recorded") {
  Tape tape;
  const Var constant = number(3, false), x = number(2);
  CHECK(!times(constant, constant).wants_grad());
  CHECK(tape.steps() == 0);
  const Var y = times(constant, x);
  CHECK(tape.steps() == 1);
  tape.backward(y);
  CHECK(!constant.grad());
  CHECK(gradient_of(x) == 3);
  constant.add_grad(Tensor::of({1}, {1}));
  CHECK(!constant.grad());
}

TEST_CASE("copies of a Var share its gradient; the first is kept as it comes, later ones are added to it") {
  const Var x(random_tensor({2, 3}, 1), true), copy = x;
  CHECK(!x.grad());
  const Tensor zeros = x.take_grad();
  for (const float zero : zeros.span<float>()) CHECK(zero == 0.0f);
  const Tensor first = random_tensor({2, 3}, 2), second = random_tensor({2, 3}, 3), expected = first.clone();
  kernels::add(expected.view(), second.view());
  x.add_grad(first);
  CHECK(copy.grad().raw() == first.raw());
  copy.add_grad(second);
  CHECK(x.grad().raw() == first.raw());
  CHECK(relative_error(x.grad(), expected) == 0.0);
  CHECK(x.take_grad().raw() == first.raw());
  CHECK(!copy.grad());
  CHECK(!Var());
}

TEST_CASE("a value's memory becomes its gradient's, unless another tensor has it too") {
  const Var x(random_tensor({2, 3}, 1), true);
  const void* const before = x.value().raw();
  const Tensor memory = x.memory_for_gradient();
  CHECK(memory.raw() == before);
  CHECK(memory.shape() == Shape{2, 3});
  CHECK(x.value().promised());
  CHECK(x.shape() == Shape{2, 3});
  const Tensor kept = random_tensor({2, 3}, 2).to(DType::bf16), expected = kept.clone();
  const Var y(kept, true);
  const Tensor other = y.memory_for_gradient();
  CHECK(other.raw() != kept.raw());
  CHECK(other.dtype() == DType::bf16);
  CHECK(y.value().raw() == kept.raw());
  CHECK(relative_error(y.value(), expected) == 0.0);
}

TEST_CASE("a gradient of a bf16 value is bf16, and adds") {
  const Var x(Tensor::zeros({4}, DType::bf16), true);
  x.add_grad(Tensor::of({4}, {1, 2, 3, 4}).to(DType::bf16));
  x.add_grad(Tensor::of({4}, {1, 1, 1, 1}).to(DType::bf16));
  CHECK(x.grad().dtype() == DType::bf16);
  CHECK(relative_error(x.grad(), Tensor::of({4}, {2, 3, 4, 5})) == 0.0);
  CHECK(x.take_grad().dtype() == DType::bf16);
  CHECK(x.take_grad().dtype() == DType::bf16);  // zeros
}

TEST_CASE("a backward pass stops where it is asked to") {
  Tape tape;
  int done = 0;
  for (int i = 0; i < 3; ++i)
    Tape::record([&] {
      ++done;
      raise_stop(15);
    });
  CHECK_THROWS_AS(tape.backward(number(1)), Stopped);
  raise_stop(0);
  CHECK(done == 1);
}

TEST_CASE("a parameter's gradient is cleared for its first writer alone") {
  Parameter p;
  p.value = random_tensor({3}, 1);
  CHECK(!p.grad);
  for (float& g : gradient_to_add(p).span<float>()) {
    CHECK(g == 0.0f);
    g = 4;
  }
  CHECK(p.has_grad);
  CHECK(gradient_to_add(p).shape() == p.value.shape());
  for (float& g : gradient_to_add(p).span<float>()) {
    CHECK(g == 4.0f);
    g += 1;
  }
  const std::byte* const place = p.grad.raw();
  p.has_grad = false;  // used up by a step
  for (const float g : gradient_to_add(p).span<float>()) CHECK(g == 0.0f);
  CHECK(p.grad.raw() == place);  // the memory is used again
}
