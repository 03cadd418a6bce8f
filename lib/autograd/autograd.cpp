#include "autograd/autograd.h"

#include <cassert>

#include "base/stop.h"
#include "kernels/rows/elementwise.h"

namespace hone {
namespace {
thread_local Tape* active = nullptr;
}

void Var::add_grad(Tensor g) const {
  if (!node_->wants_grad) return;
  assert(g.size() == node_->value.size() && g.dtype() == node_->value.dtype());
  if (!node_->grad)
    node_->grad = std::move(g);
  else
    kernels::add(node_->grad.view(), g.view());
}

Tensor Var::take_grad() const {
  if (!node_->grad) return Tensor::zeros(node_->value.shape(), node_->value.dtype());
  return std::exchange(node_->grad, Tensor());
}

Tape::Tape() : outer_(active) {
  active = this;
}

Tape::~Tape() {
  active = outer_;
}

bool Tape::recording() {
  return active != nullptr;
}

void Tape::record(std::function<void()> step) {
  assert(active);
  active->steps_.push_back(std::move(step));
}

void Tape::backward(const Var& loss, float seed) {
  assert(loss.value().size() == 1 && loss.value().dtype() == DType::f32);
  backward(loss, Tensor::of(loss.shape(), {seed}));
}

void Tape::backward(const Var& output, Tensor gradient) {
  const NoTape pause;
  output.add_grad(std::move(gradient));
  while (!steps_.empty()) {
    check_stop();
    const std::function<void()> step = std::move(steps_.back());
    steps_.pop_back();
    step();
  }
}

NoTape::NoTape() : outer_(active) {
  active = nullptr;
}

NoTape::~NoTape() {
  active = outer_;
}

Var recompute(const std::function<Var(const std::vector<Var>&)>& f, const std::vector<Var>& inputs) {
  if (!Tape::recording()) return f(inputs);
  Tensor value;
  {
    const NoTape pause;
    value = f(inputs).value();
  }
  const Var output(std::move(value), true);
  Tape::record([f, inputs, output] {
    std::vector<Var> fresh;
    for (const Var& input : inputs) fresh.emplace_back(input.value(), input.wants_grad());
    Tape inner;
    const Var again = f(fresh);
    inner.backward(again, output.take_grad());
    for (size_t i = 0; i < inputs.size(); ++i)
      if (fresh[i].wants_grad()) inputs[i].add_grad(fresh[i].take_grad());
  });
  return output;
}

Tensor& gradient_to_add(Parameter& p) {
  if (!p.grad) p.grad = Tensor::empty(p.value.shape());
  if (!p.has_grad) kernels::zero(p.grad.raw(), p.grad.bytes());
  p.has_grad = true;
  return p.grad;
}

}  // namespace hone
