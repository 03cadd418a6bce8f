#include "ops/kinds.h"

#include "kernels/parallel.h"

namespace hone::ops {
namespace {

void put(float x, float& to) {
  to = x;
}
void put(float x, bf16& to) {
  to = to_bf16(x);
}

// y = x * factors + offsets; `offsets` none: 0.
template <class T>
void scale_rows(const Tensor& x, const std::vector<int32_t>& kinds, const std::vector<const float*>& factors,
                const std::vector<const float*>& offsets, const Tensor& y) {
  const int64_t dim = x.dim(1);
  kernels::parallel_for(x.dim(0), kernels::row_grain(dim), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const auto kind = static_cast<size_t>(kinds[static_cast<size_t>(r)]);
      const float *const factor = factors[kind], *const offset = offsets.empty() ? nullptr : offsets[kind];
      const T* const from = x.data<T>() + r * dim;
      T* const to = y.data<T>() + r * dim;
      for (int64_t c = 0; c < dim; ++c) put(to_float(from[c]) * factor[c] + (offset ? offset[c] : 0.0f), to[c]);
    }
  });
}

// to[kind of r][c] += dy[r][c] * x[r][c], or += dy[r][c] without x; columns are cut, not rows: no sum depends on threads.
template <class T>
void add_sums(const Tensor& dy, const Tensor& x, const std::vector<int32_t>& kinds, const std::vector<float*>& to) {
  const int64_t dim = dy.dim(1), rows = dy.dim(0);
  kernels::parallel_for(dim, kernels::row_grain(rows), [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows; ++r) {
      float* const sums = to[static_cast<size_t>(kinds[static_cast<size_t>(r)])];
      if (!sums) continue;
      const T *const d = dy.data<T>() + r * dim, *const v = x ? x.data<T>() + r * dim : nullptr;
      for (int64_t c = begin; c < end; ++c) sums[c] += to_float(d[c]) * (v ? to_float(v[c]) : 1.0f);
    }
  });
}

template <class F>
void with_type(const Tensor& x, F&& f) {
  if (x.dtype() == DType::bf16)
    f(bf16());
  else
    f(float());
}

std::vector<const float*> values_of(const std::vector<Parameter*>& parameters) {
  std::vector<const float*> values;
  for (const Parameter* p : parameters) values.push_back(p->value.data<float>());
  return values;
}

// Null where no row is of the kind, whose gradient then stays untouched, or it is not trained.
std::vector<float*> gradients_of(const std::vector<Parameter*>& parameters, const std::vector<int32_t>& kinds) {
  std::vector<float*> gradients(parameters.size());
  for (const int32_t kind : kinds) {
    const auto k = static_cast<size_t>(kind);
    if (!gradients[k] && parameters[k]->trainable) gradients[k] = gradient_to_add(*parameters[k]).data<float>();
  }
  return gradients;
}

}  // namespace

Var gain_by_kind(const Var& x, std::vector<int32_t> kinds, std::vector<Parameter*> gains,
                 std::vector<Parameter*> biases) {
  const Tensor y = Tensor::empty(x.shape(), x.value().dtype());
  with_type(x.value(), [&]<class T>(T) { scale_rows<T>(x.value(), kinds, values_of(gains), values_of(biases), y); });
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([x, output, kinds = std::move(kinds), gains = std::move(gains), biases = std::move(biases)] {
    const Tensor dy = output.take_grad();
    with_type(dy, [&]<class T>(T) {
      add_sums<T>(dy, x.value(), kinds, gradients_of(gains, kinds));
      if (!biases.empty()) add_sums<T>(dy, Tensor(), kinds, gradients_of(biases, kinds));
      if (!x.wants_grad()) return;
      const Tensor dx = Tensor::empty(x.shape(), dy.dtype());
      scale_rows<T>(dy, kinds, values_of(gains), {}, dx);
      x.add_grad(dx);
    });
  });
  return output;
}

}  // namespace hone::ops
