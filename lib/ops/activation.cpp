#include "ops/activation.h"

#include <cmath>

#include "kernels/rows/elementwise.h"

namespace hone::ops {

Var swiglu(const Var& gate_up) {
  const kernels::View in = gate_up.value().view();
  const Tensor y = Tensor::empty({in.rows, in.cols / 2}, gate_up.value().dtype());
  kernels::swiglu_forward(in, y.view());
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([gate_up, output] {
    const kernels::ConstView value = gate_up.value().view();
    const Tensor d = gate_up.memory_for_gradient();
    kernels::swiglu_backward(value, output.take_grad().view(), d.view());
    gate_up.add_grad(d);
  });
  return output;
}

namespace {

// A function of each number, by its kernels.
Var elementwise(const Var& x, void (*forward)(kernels::ConstView, kernels::View),
                void (*backward)(kernels::ConstView, kernels::ConstView, kernels::View)) {
  const Tensor y = Tensor::empty(x.shape(), x.value().dtype());
  forward(x.value().view(), y.view());
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([x, output, backward] {
    const kernels::ConstView value = x.value().view();
    const Tensor d = x.memory_for_gradient();
    backward(value, output.take_grad().view(), d.view());
    x.add_grad(d);
  });
  return output;
}

}  // namespace

Var gelu(const Var& x) {
  return elementwise(x, kernels::gelu_forward, kernels::gelu_backward);
}

Var gelu_erf(const Var& x) {
  return elementwise(x, kernels::gelu_erf_forward, kernels::gelu_erf_backward);
}

Var dropout(const Var& x, float rate, uint64_t seed) {
  if (rate <= 0) return x;
  if (!x.value().promised()) kernels::dropout(x.value().view(), rate, seed);
  if (!Tape::recording()) return x;
  const Var output(x.value(), true);
  x.drop_value();  // it is the output's now
  Tape::record([x, output, rate, seed] {
    const Tensor d = output.take_grad();
    kernels::dropout(d.view(), rate, seed);
    x.add_grad(d);
  });
  return output;
}

RopeTable RopeTable::make(int64_t positions, std::span<const double> frequencies) {
  const auto half = static_cast<int64_t>(frequencies.size());
  RopeTable table{Tensor::empty({positions, half}), Tensor::empty({positions, half}), positions};
  for (int64_t i = 0; i < half; ++i) {
    for (int64_t p = 0; p < positions; ++p) {
      const double angle = static_cast<double>(p) * frequencies[static_cast<size_t>(i)];
      table.cosines.data<float>()[p * half + i] = static_cast<float>(std::cos(angle));
      table.sines.data<float>()[p * half + i] = static_cast<float>(std::sin(angle));
    }
  }
  return table;
}

RopeTable RopeTable::make(int64_t positions, int64_t head_dim, double theta) {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < head_dim / 2; ++i)
    frequencies.push_back(std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
  return make(positions, frequencies);
}

Var rope(const Var& x, int64_t heads, int64_t head_dim, std::span<const int32_t> positions, const RopeTable& table) {
  kernels::rope(x.value().view(), heads, head_dim, positions, table.cosines.data<float>(), table.sines.data<float>(),
                1.0f);
  if (!Tape::recording()) return x;
  const Var output(x.value(), true);
  Tape::record([x, output, heads, head_dim, positions = std::vector(positions.begin(), positions.end()), table] {
    const Tensor d = output.take_grad();
    kernels::rope(d.view(), heads, head_dim, positions, table.cosines.data<float>(), table.sines.data<float>(), -1.0f);
    x.add_grad(d);
  });
  return output;
}

}  // namespace hone::ops
