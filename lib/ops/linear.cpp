#include "ops/linear.h"

#include "kernels/rows/elementwise.h"

namespace hone::ops {

namespace {

void multiply(const Weight& weight, kernels::ConstView x, kernels::View y, bool eight_bits) {
  const auto integers = eight_bits ? weight.integers(false) : std::nullopt;
  integers ? kernels::packed_matmul_8(*integers, x, y) : weight.matmul(x, y);
}

}  // namespace

void input_gradient(const Weight& weight, kernels::ConstView dy, kernels::View dx,
                    const std::optional<EightBits>& eight_bits) {
  const auto integers = eight_bits ? weight.integers(true) : std::nullopt;
  integers ? kernels::packed_matmul_8(*integers, dy, dx, {eight_bits->seed}) : weight.matmul_dx(dy, dx);
}

Var linear(const Var& x, const std::shared_ptr<Weight>& weight, Parameter* bias, bool unread,
           std::optional<EightBits> eight_bits) {
  const kernels::View in = x.value().view();
  const Shape shape = {in.rows, weight->rows()};
  const DType type = x.value().dtype();
  const Tensor y = unread ? Tensor::promised(shape, type) : Tensor::empty(shape, type);
  if (!unread) {
    multiply(*weight, in, y.view(), eight_bits.has_value());
    if (bias) kernels::add_bias(y.view(), bias->value.data<float>());
  }
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([x, weight, bias, eight_bits, output] {
    const Tensor dy = output.take_grad();
    if (bias && bias->trainable) kernels::add_column_sums(dy.view(), gradient_to_add(*bias).data<float>());
    weight->add_dw(dy.view(), x.value().view());
    if (!x.wants_grad()) return;
    const Tensor dx = Tensor::empty(x.shape(), x.value().dtype());
    input_gradient(*weight, dy.view(), dx.view(), eight_bits);
    x.add_grad(dx);
  });
  return output;
}

Var sum(const Var& residual, const Var& branch) {
  const bool unread = branch.value().promised();
  const Tensor y = unread ? Tensor::promised(residual.shape(), residual.value().dtype()) : residual.value().clone();
  if (!unread) kernels::add(y.view(), branch.value().view());
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([residual, branch, output] {
    const Tensor d = output.take_grad();
    if (branch.wants_grad()) {
      const Tensor d_branch = Tensor::empty(branch.shape(), branch.value().dtype());
      kernels::convert(d.view(), d_branch.view());
      branch.add_grad(d_branch);
    }
    residual.add_grad(d);
  });
  return output;
}

Var embedding(std::span<const int32_t> ids, const std::shared_ptr<Weight>& weight, std::span<const int32_t> positions,
              Parameter* position_table) {
  const int64_t dim = weight->cols();
  const Tensor y = Tensor::empty({static_cast<int64_t>(ids.size()), dim});
  weight->gather(ids, y.view());
  if (position_table) {
    const Tensor rows = Tensor::empty(y.shape());
    kernels::gather_rows(position_table->value.data<float>(), dim, positions, rows.view());
    kernels::add(y.view(), rows.view());
  }
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record(
      [=, ids = std::vector(ids.begin(), ids.end()), positions = std::vector(positions.begin(), positions.end())] {
        const Tensor dy = output.take_grad();
        if (Parameter* table = weight->parameter(); table && table->trainable)
          kernels::scatter_add_rows(dy.view(), ids, gradient_to_add(*table).data<float>(), dim);
        if (position_table && position_table->trainable)
          kernels::scatter_add_rows(dy.view(), positions, gradient_to_add(*position_table).data<float>(), dim);
      });
  return output;
}

}  // namespace hone::ops
