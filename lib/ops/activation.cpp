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
    const Tensor d = Tensor::empty(gate_up.shape(), gate_up.value().dtype());
    kernels::swiglu_backward(gate_up.value().view(), output.take_grad().view(), d.view());
    gate_up.add_grad(d);
  });
  return output;
}

Var gelu(const Var& x) {
  const Tensor y = Tensor::empty(x.shape(), x.value().dtype());
  kernels::gelu_forward(x.value().view(), y.view());
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([x, output] {
    const Tensor d = Tensor::empty(x.shape(), x.value().dtype());
    kernels::gelu_backward(x.value().view(), output.take_grad().view(), d.view());
    x.add_grad(d);
  });
  return output;
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

RopeTable RopeTable::make(int64_t positions, int64_t head_dim, double theta) {
  const int64_t half = head_dim / 2;
  RopeTable table{Tensor::empty({positions, half}), Tensor::empty({positions, half}), positions};
  for (int64_t i = 0; i < half; ++i) {
    const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    for (int64_t p = 0; p < positions; ++p) {
      const double angle = static_cast<double>(p) * frequency;
      table.cosines.data<float>()[p * half + i] = static_cast<float>(std::cos(angle));
      table.sines.data<float>()[p * half + i] = static_cast<float>(std::sin(angle));
    }
  }
  return table;
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
