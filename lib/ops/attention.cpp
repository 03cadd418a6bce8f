#include "ops/attention.h"

#include "base/clock.h"

namespace hone::ops {

QkvRows QkvRows::of(const Tensor& qkv, const kernels::AttentionDims& dims) {
  const int64_t width = qkv.dim(-1), unit = static_cast<int64_t>(size_of(qkv.dtype()));
  const auto part = [&](int64_t first_head) {
    return kernels::HeadRows{qkv.raw() + first_head * dims.head_dim * unit, qkv.dtype(), dims.queries * width, width,
                             dims.head_dim};
  };
  return {part(0), part(dims.heads), part(dims.heads + dims.kv_heads)};
}

kernels::HeadRows head_rows(const Tensor& rows, const kernels::AttentionDims& dims) {
  const int64_t width = dims.heads * dims.head_dim;
  return {rows.raw(), rows.dtype(), dims.queries * width, width, dims.head_dim};
}

Var attention(const Var& qkv, const kernels::AttentionDims& dims, std::shared_ptr<const kernels::BlockPlan> plan,
              double* backward_seconds) {
  const QkvRows in = QkvRows::of(qkv.value(), dims);
  const Tensor out = Tensor::empty({dims.batch * dims.queries, dims.heads * dims.head_dim}, qkv.value().dtype());
  const bool recording = Tape::recording();
  const Tensor log_sum_exp = recording ? Tensor::empty({dims.batch, dims.heads, dims.queries}) : Tensor();
  kernels::attention_forward(dims, in.q, in.k, in.v, head_rows(out, dims),
                             recording ? log_sum_exp.data<float>() : nullptr, *plan);
  if (!recording) return Var(out);
  const Var output(out, true);
  Tape::record([qkv, dims, plan = std::move(plan), log_sum_exp, output, backward_seconds] {
    const SecondsInto timer(backward_seconds);
    const Tensor d_out = output.take_grad();
    const Tensor d_qkv = Tensor::empty(qkv.shape(), qkv.value().dtype());
    const QkvRows x = QkvRows::of(qkv.value(), dims), d = QkvRows::of(d_qkv, dims);
    kernels::attention_backward(dims, x.q, x.k, x.v, head_rows(output.value(), dims), log_sum_exp.data<float>(),
                                head_rows(d_out, dims), {d.q, d.k, d.v}, *plan);
    qkv.add_grad(d_qkv);
  });
  return output;
}

}  // namespace hone::ops
