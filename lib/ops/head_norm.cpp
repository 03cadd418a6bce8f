#include "ops/head_norm.h"

#include <utility>

#include "kernels/rows/elementwise.h"
#include "kernels/rows/head_norm.h"
#include "ops/ranks.h"

namespace hone::ops {

Var head_norm(const Var& qkv, int64_t heads, int64_t kv_heads, Parameter& query_gain, Parameter& key_gain,
              float epsilon, const std::shared_ptr<Communicator>& ranks) {
  const auto norm = [heads, kv_heads, epsilon, &query_gain, &key_gain] {
    return kernels::HeadNorm{heads,
                             kv_heads,
                             query_gain.value.size(),
                             key_gain.value.size(),
                             query_gain.value.data<float>(),
                             key_gain.value.data<float>(),
                             epsilon};
  };
  const Tensor& x = qkv.value();
  const Tensor y = Tensor::empty(x.shape(), x.dtype()), inverse = Tensor::empty({x.dim(0), heads + kv_heads});
  kernels::head_norm_forward(norm(), x.view(), y.view(), inverse.data<float>());
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([qkv, norm, inverse, output, ranks, &query_gain, &key_gain] {
    const Tensor d = output.take_grad();
    const auto sum_of = [&](Parameter& gain) {
      return !gain.trainable ? Tensor() : ranks ? Tensor::zeros(gain.value.shape()) : gradient_to_add(gain);
    };
    const Tensor of_queries = sum_of(query_gain), of_keys = sum_of(key_gain);
    kernels::head_norm_backward(norm(), qkv.value().view(), inverse.data<float>(), d.view(),
                                of_queries ? of_queries.data<float>() : nullptr,
                                of_keys ? of_keys.data<float>() : nullptr);
    if (ranks)
      for (const auto& [gain, sum] : {std::pair(&query_gain, of_queries), std::pair(&key_gain, of_keys)}) {
        if (!sum) continue;
        sum_over(*ranks, sum);
        kernels::add(gradient_to_add(*gain).view(), sum.view());
      }
    qkv.add_grad(d);
  });
  return output;
}

}  // namespace hone::ops
