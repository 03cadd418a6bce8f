#include "ops/head_norm.h"

#include "kernels/rows/head_norm.h"

namespace hone::ops {

Var head_norm(const Var& qkv, int64_t heads, int64_t kv_heads, Parameter& query_gain, Parameter& key_gain,
              float epsilon) {
  const auto norm = [heads, kv_heads, epsilon, &query_gain, &key_gain] {
    return kernels::HeadNorm{
        heads,  kv_heads, query_gain.value.size(), query_gain.value.data<float>(), key_gain.value.data<float>(),
        epsilon};
  };
  const Tensor& x = qkv.value();
  const Tensor y = Tensor::empty(x.shape(), x.dtype()), inverse = Tensor::empty({x.dim(0), heads + kv_heads});
  kernels::head_norm_forward(norm(), x.view(), y.view(), inverse.data<float>());
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([qkv, norm, inverse, output, &query_gain, &key_gain] {
    const Tensor d = output.take_grad();
    const auto of = [](Parameter& gain) { return gain.trainable ? gradient_to_add(gain).data<float>() : nullptr; };
    kernels::head_norm_backward(norm(), qkv.value().view(), inverse.data<float>(), d.view(), of(query_gain),
                                of(key_gain));
    qkv.add_grad(d);
  });
  return output;
}

}  // namespace hone::ops
