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

Var attention(const Var& qkv, std::vector<AttentionPart> parts, double* backward_seconds) {
  const bool recording = Tape::recording();
  const kernels::AttentionDims& shape = parts.front().dims;
  const Tensor out = Tensor::empty({qkv.shape()[0], shape.heads * shape.head_dim}, qkv.value().dtype());
  std::vector<Tensor> log_sums;  // of each part
  for (const AttentionPart& part : parts) {
    const kernels::AttentionDims& dims = part.dims;
    const QkvRows in = QkvRows::of(part.rows_of(qkv.value()), dims);
    log_sums.push_back(recording ? Tensor::empty({dims.batch, dims.heads, dims.queries}) : Tensor());
    kernels::attention_forward(dims, in.q, in.k, in.v, head_rows(part.rows_of(out), dims),
                               recording ? log_sums.back().data<float>() : nullptr, *part.plan);
  }
  if (!recording) return Var(out);
  const Var output(out, true);
  Tape::record([qkv, parts = std::move(parts), log_sums, output, backward_seconds] {
    const SecondsInto timer(backward_seconds);
    const Tensor d_out = output.take_grad();
    const Tensor d_qkv = Tensor::empty(qkv.shape(), qkv.value().dtype());
    for (size_t i = 0; i < parts.size(); ++i) {
      const AttentionPart& part = parts[i];
      const QkvRows x = QkvRows::of(part.rows_of(qkv.value()), part.dims),
                    d = QkvRows::of(part.rows_of(d_qkv), part.dims);
      kernels::attention_backward(part.dims, x.q, x.k, x.v, head_rows(part.rows_of(output.value()), part.dims),
                                  log_sums[i].data<float>(), head_rows(part.rows_of(d_out), part.dims), {d.q, d.k, d.v},
                                  *part.plan);
    }
    qkv.add_grad(d_qkv);
  });
  return output;
}

}  // namespace hone::ops
