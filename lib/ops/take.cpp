#include "ops/take.h"

#include <cstring>
#include <vector>

#include "kernels/parallel.h"

namespace hone::ops {
namespace {

void put(float x, float& to) {
  to = x;
}
void put(float x, bf16& to) {
  to = to_bf16(x);
}

template <class T>
void scaled(const T* from, T* to, int64_t count, float scale) {
  if (scale == 1) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
    return;
  }
  for (int64_t i = 0; i < count; ++i) put(to_float(from[i]) * scale, to[i]);
}

// Row from_rows[i] of `from` (or i where they are none) to row to_rows[i] of `to`, times `scale`.
template <class T>
void move_rows(const Tensor& from, const Tensor& to, const std::vector<int32_t>& rows, bool gather, float scale) {
  const int64_t dim = from.dim(-1);
  kernels::parallel_for(static_cast<int64_t>(rows.size()), kernels::row_grain(dim), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t other = rows[static_cast<size_t>(i)];
      scaled(from.data<T>() + (gather ? other : i) * dim, to.data<T>() + (gather ? i : other) * dim, dim, scale);
    }
  });
}

void move_rows(const Tensor& from, const Tensor& to, const std::vector<int32_t>& rows, bool gather, float scale) {
  if (from.dtype() == DType::bf16)
    move_rows<bf16>(from, to, rows, gather, scale);
  else
    move_rows<float>(from, to, rows, gather, scale);
}

Tensor gathered(const Tensor& from, const std::vector<int32_t>& rows, float scale) {
  const Tensor to = Tensor::empty({static_cast<int64_t>(rows.size()), from.dim(-1)}, from.dtype());
  move_rows(from, to, rows, true, scale);
  return to;
}

Tensor scattered(const Tensor& from, const std::vector<int32_t>& rows, int64_t count, float scale) {
  const Tensor to = Tensor::zeros({count, from.dim(-1)}, from.dtype());
  move_rows(from, to, rows, false, scale);
  return to;
}

}  // namespace

Var take_rows(const Var& x, std::span<const int32_t> named) {
  const std::vector<int32_t> rows(named.begin(), named.end());
  const Tensor y = gathered(x.value(), rows, 1);
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([x, output, rows] { x.add_grad(scattered(output.take_grad(), rows, x.shape()[0], 1)); });
  return output;
}

Var put_rows(const Var& x, std::span<const int32_t> named, int64_t count, float scale) {
  const std::vector<int32_t> rows(named.begin(), named.end());
  const bool unread = x.value().promised();
  const Tensor y =
      unread ? Tensor::promised({count, x.shape()[1]}, x.value().dtype()) : scattered(x.value(), rows, count, scale);
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  if (!unread) x.drop_value();
  Tape::record([x, output, rows, scale] { x.add_grad(gathered(output.take_grad(), rows, scale)); });
  return output;
}

}  // namespace hone::ops
