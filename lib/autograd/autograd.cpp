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

Tensor Var::memory_for_gradient() const {
  if (!node_->value.alone()) return Tensor::empty(node_->value.shape(), node_->value.dtype());
  Tensor memory = node_->value;
  drop_value();
  return memory;
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
  const LossTerm term{"", loss, seed};
  backward(std::span(&term, 1));
}

void Tape::backward(std::span<const LossTerm> terms) {
  std::vector<std::pair<Var, Tensor>> outputs;
  for (const LossTerm& term : terms) {
    assert(term.value.value().size() == 1 && term.value.value().dtype() == DType::f32);
    outputs.emplace_back(term.value, Tensor::of(term.value.shape(), {term.weight}));
  }
  backward(std::move(outputs));
}

void Tape::backward(const Var& output, Tensor gradient) {
  backward({{output, std::move(gradient)}});
}

void Tape::backward(std::vector<std::pair<Var, Tensor>> outputs) {
  const NoTape pause;
  for (auto& [output, gradient] : outputs) output.add_grad(std::move(gradient));
  outputs.clear();
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

std::vector<Var> recompute(const Recomputed& f, const std::vector<Var>& inputs) {
  if (!Tape::recording()) return f(inputs, false);
  std::vector<Var> outputs;
  {
    const NoTape pause;
    for (const Var& output : f(inputs, false)) outputs.push_back(output ? Var(output.value(), true) : Var());
  }
  Tape::record([f, inputs, outputs] {
    std::vector<Var> fresh;
    for (const Var& input : inputs) fresh.push_back(input ? Var(input.value(), input.wants_grad()) : Var());
    Tape inner;
    const std::vector<Var> again = f(fresh, true);
    assert(again.size() == outputs.size());
    std::vector<std::pair<Var, Tensor>> gradients;
    for (size_t i = 0; i < outputs.size(); ++i)
      if (outputs[i] && outputs[i].grad()) gradients.emplace_back(again[i], outputs[i].take_grad());
    inner.backward(std::move(gradients));
    for (size_t i = 0; i < inputs.size(); ++i)
      if (fresh[i] && fresh[i].grad()) inputs[i].add_grad(fresh[i].take_grad());
  });
  return outputs;
}

Tensor& gradient_to_add(Parameter& p) {
  if (!p.grad) p.grad = Tensor::empty(p.value.shape());
  if (!p.has_grad) kernels::zero(p.grad.raw(), p.grad.bytes());
  p.has_grad = true;
  return p.grad;
}

}  // namespace hone
