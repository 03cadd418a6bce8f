#include "ops/place.h"

#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"

namespace hone::ops {
namespace {

// to[at[i]] += from[i], no row of `to` twice
void add_at(const Tensor& from, const std::vector<int32_t>& at, const Tensor& to) {
  const Tensor rows = from.to(DType::f32);
  const int64_t dim = to.dim(1);
  kernels::parallel_for(static_cast<int64_t>(at.size()), kernels::row_grain(dim), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* source = rows.data<float>() + i * dim;
      float* target = to.data<float>() + at[static_cast<size_t>(i)] * dim;
      for (int64_t c = 0; c < dim; ++c) target[c] += source[c];
    }
  });
}

Tensor rows_at(const Tensor& all, const std::vector<int32_t>& at) {
  const Tensor rows = Tensor::empty({static_cast<int64_t>(at.size()), all.dim(1)});
  kernels::gather_rows(all.data<float>(), all.dim(1), at, rows.view());
  return rows;
}

}  // namespace

Var place(int64_t rows, int64_t dim, std::vector<Placed> parts) {
  const Tensor y = Tensor::zeros({rows, dim});
  for (const Placed& part : parts) {
    if (part.rows) add_at(part.rows.value(), part.at, y);
    for (const Lookup& lookup : part.plus) add_at(rows_at(lookup.table->value, lookup.rows), part.at, y);
  }
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([parts = std::move(parts), output] {
    const Tensor all = output.take_grad();
    for (const Placed& part : parts) {
      const Tensor d = rows_at(all, part.at);
      for (const Lookup& lookup : part.plus)
        if (lookup.table->trainable)
          kernels::scatter_add_rows(d.view(), lookup.rows, gradient_to_add(*lookup.table).data<float>(), d.dim(1));
      if (part.rows && part.rows.wants_grad()) part.rows.add_grad(d.to(part.rows.value().dtype()));
    }
  });
  return output;
}

}  // namespace hone::ops
