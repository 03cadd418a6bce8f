#include "ops/ranks.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/rows/elementwise.h"
#include "ops/linear.h"

namespace hone::ops {
namespace {

std::span<std::byte> bytes_of(const Tensor& tensor) {
  return {tensor.raw(), tensor.bytes()};
}

// Elements of `x` that rank `rank` adds up.
Tensor share_of(const Tensor& x, int rank, int ranks) {
  const int64_t begin = x.size() * rank / ranks, end = x.size() * (rank + 1) / ranks;
  return x.reshape({x.size()}).rows(begin, end - begin);
}

// As rows of some length, which threads share.
void add(const Tensor& into, const Tensor& more) {
  constexpr int64_t cols = 1024;
  const int64_t rows = into.size() / cols, rest = into.size() - rows * cols;
  const auto flat = [&](const Tensor& t, int64_t first, int64_t count, int64_t width) {
    return t.reshape({t.size()}).rows(first, count * width).reshape({count, width}).view();
  };
  if (rows > 0) kernels::add(flat(into, 0, rows, cols), flat(more, 0, rows, cols));
  if (rest > 0) kernels::add(flat(into, rows * cols, 1, rest), flat(more, rows * cols, 1, rest));
}

// others[rank] for all but this one, and x in the place of this one: ((x0 + x1) + x2) + …, into x.
void add_in_order(const Tensor& x, int me, const std::vector<Tensor>& others) {
  if (others.size() == 2) return add(x, others[me == 0 ? 1 : 0]);  // which is the same in either order
  const Tensor& sum = me == 0 ? x : others.front();
  for (int rank = 1; rank < static_cast<int>(others.size()); ++rank)
    add(sum, rank == me ? x : others[static_cast<size_t>(rank)]);
  if (me > 0) std::memcpy(x.raw(), sum.raw(), x.bytes());
}

// Up to here the time of a message counts, and all ranks add up all: one message to each instead of two.
constexpr size_t few_bytes = size_t{32} << 10;

void sum_few(Communicator& ranks, const Tensor& x) {
  std::vector<Tensor> others(static_cast<size_t>(ranks.size()));
  std::vector<std::unique_ptr<Pending>> on_way;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    if (rank == ranks.rank()) continue;
    Tensor& other = others[static_cast<size_t>(rank)] = Tensor::empty(x.shape(), x.dtype());
    on_way.push_back(ranks.receive(bytes_of(other), rank));
    on_way.push_back(ranks.send(bytes_of(x), rank));
  }
  wait(on_way);
  add_in_order(x, ranks.rank(), others);
}

}  // namespace

// Each rank adds up one share of the elements and sends the sum to the others: for N ranks 2 (N - 1) / N of the bytes
// go each way.
void sum_over(Communicator& ranks, const Tensor& x) {
  const int size = ranks.size(), me = ranks.rank();
  if (size == 1) return;
  if (x.bytes() <= few_bytes) return sum_few(ranks, x);
  const Tensor own = share_of(x, me, size);
  std::vector<Tensor> others(static_cast<size_t>(size));
  std::vector<std::unique_ptr<Pending>> on_way;
  for (int rank = 0; rank < size; ++rank) {
    if (rank == me) continue;
    Tensor& other = others[static_cast<size_t>(rank)] = Tensor::empty(own.shape(), x.dtype());
    on_way.push_back(ranks.receive(bytes_of(other), rank));
    on_way.push_back(ranks.send(bytes_of(share_of(x, rank, size)), rank));
  }
  wait(on_way);
  on_way.clear();
  add_in_order(own, me, others);
  for (int rank = 0; rank < size; ++rank) {
    if (rank == me) continue;
    on_way.push_back(ranks.receive(bytes_of(share_of(x, rank, size)), rank));
    on_way.push_back(ranks.send(bytes_of(own), rank));
  }
  wait(on_way);
}

Var for_parts(const Var& x, const std::shared_ptr<Communicator>& ranks) {
  if (!Tape::recording() || !x.wants_grad()) return x;
  const Var output(x.value(), true);
  Tape::record([x, output, ranks] {
    const Tensor d = output.take_grad();
    sum_over(*ranks, d);
    x.add_grad(d);
  });
  return output;
}

Var sum_of_parts(const Var& y, const std::shared_ptr<Communicator>& ranks, Parameter* bias) {
  if (!y.value().promised()) {
    sum_over(*ranks, y.value());
    if (bias) kernels::add_bias(y.value().view(), bias->value.data<float>());
  }
  if (bias && bias->trainable && Tape::recording())
    Tape::record([y, bias] {
      if (y.grad()) kernels::add_column_sums(y.grad().view(), gradient_to_add(*bias).data<float>());
    });
  return y;
}

Var embedding_of_parts(std::span<const int32_t> ids, const std::shared_ptr<Weight>& weight, int64_t first,
                       const std::shared_ptr<Communicator>& ranks) {
  const int64_t dim = weight->cols(), end = first + weight->rows();
  std::vector<int32_t> own, rows;  // ids in this part's table, and where they stand
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] >= first && ids[i] < end) {
      own.push_back(static_cast<int32_t>(ids[i] - first));
      rows.push_back(static_cast<int32_t>(i));
    }
  const Tensor y = Tensor::zeros({static_cast<int64_t>(ids.size()), dim});
  const Tensor found = Tensor::empty({static_cast<int64_t>(own.size()), dim});
  if (!own.empty()) weight->gather(own, found.view());
  const auto row_bytes = static_cast<size_t>(dim) * sizeof(float);
  for (size_t i = 0; i < rows.size(); ++i)
    std::memcpy(y.data<float>() + rows[i] * dim, found.data<float>() + static_cast<int64_t>(i) * dim, row_bytes);
  sum_over(*ranks, y);
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([weight, output, own, rows, dim, row_bytes] {
    const Tensor dy = output.take_grad();
    Parameter* const table = weight->parameter();
    if (!table || !table->trainable) return;
    Tensor& grad = gradient_to_add(*table);
    if (own.empty()) return;
    const Tensor d = Tensor::empty({static_cast<int64_t>(own.size()), dim});
    for (size_t i = 0; i < rows.size(); ++i)
      std::memcpy(d.data<float>() + static_cast<int64_t>(i) * dim, dy.data<float>() + rows[i] * dim, row_bytes);
    kernels::scatter_add_rows(d.view(), own, grad.data<float>(), dim);
  });
  return output;
}

Tensor columns_of_parts(const Tensor& part, Communicator& ranks) {
  const int64_t rows = part.dim(0), cols = part.dim(1), size = ranks.size();
  std::vector<Tensor> parts(static_cast<size_t>(size));
  std::vector<std::unique_ptr<Pending>> on_way;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    Tensor& other = parts[static_cast<size_t>(rank)];
    if (rank == ranks.rank()) {
      other = part;
      continue;
    }
    other = Tensor::empty(part.shape());
    on_way.push_back(ranks.receive(bytes_of(other), rank));
    on_way.push_back(ranks.send(bytes_of(part), rank));
  }
  wait(on_way);
  const Tensor all = Tensor::empty({rows, size * cols});
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < size; ++i)
      std::copy_n(parts[static_cast<size_t>(i)].data<float>() + r * cols, cols,
                  all.data<float>() + (r * size + i) * cols);
  return all;
}

}  // namespace hone::ops
