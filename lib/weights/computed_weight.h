// Weights that compute with other values than those that are trained: values follow from a parameter by a rule, and the
// gradient goes back to it by another.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>

#include "weights/dense_weight.h"
#include "weights/quantized_matrix.h"

namespace hone {

// The products of both: a dense weight whose values are made again when the parameter has changed, by the first thread
// that needs them.
class ComputedWeight : public Weight {
 public:
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  void matmul(kernels::ConstView x, kernels::View y) const override { current().matmul(x, y); }
  std::optional<kernels::PackedMatrix> packed(DType x) const override { return current().packed(x); }
  std::optional<kernels::PackedMatrix> integers(bool transposed) const override {
    return current().integers(transposed);
  }
  void matmul_dx(kernels::ConstView dy, kernels::View dx) const override { current().matmul_dx(dy, dx); }
  void gather(std::span<const int32_t> ids, kernels::View out) const override { current().gather(ids, out); }
  bool trainable() const override { return true; }
  // What products read: that of a dense weight.
  int64_t stored_bytes() const override { return current().stored_bytes(); }

 protected:
  ComputedWeight(int64_t rows, int64_t cols) : rows_(rows), cols_(cols) {}
  virtual Tensor compute() const = 0;    // f32 [rows, cols], written to by nobody else
  virtual uint64_t version() const = 0;  // of what compute() depends on
  DenseWeight& current() const;

 private:
  int64_t rows_, cols_;
  mutable std::mutex mutex_;
  mutable std::atomic<uint64_t> made_{0};  // the version, plus 1; 0: none
  mutable std::unique_ptr<DenseWeight> values_;
};

// Trained through a rounding as if that were not there (the straight-through estimator, Bengio et al., arXiv
// 1308.3432): products use round(master), the gradient of the rounded values moves the master. Stored, it is its
// master.
class StraightThroughWeight : public ComputedWeight {
 public:
  using Round = std::function<Tensor(const Tensor& values, const Bitmask& mask)>;

  // Until `active` is true, products use the master itself.
  StraightThroughWeight(std::shared_ptr<Weight> master, Round round, std::shared_ptr<const std::atomic<bool>> active);

  const std::shared_ptr<Weight>& master() const { return master_; }
  Tensor rounded() const { return round_(master_->to_dense(), master_->mask()); }

  void matmul(kernels::ConstView x, kernels::View y) const override { used().matmul(x, y); }
  std::optional<kernels::PackedMatrix> packed(DType x) const override { return used().packed(x); }
  std::optional<kernels::PackedMatrix> integers(bool transposed) const override { return used().integers(transposed); }
  void matmul_dx(kernels::ConstView dy, kernels::View dx) const override { used().matmul_dx(dy, dx); }
  void gather(std::span<const int32_t> ids, kernels::View out) const override { used().gather(ids, out); }
  void add_dw(kernels::ConstView dy, kernels::ConstView x) override { master_->add_dw(dy, x); }
  Parameter* parameter() override { return master_->parameter(); }
  bool trainable() const override { return master_->trainable(); }
  Tensor to_dense() const override { return master_->to_dense(); }
  Bitmask mask() const override { return master_->mask(); }
  void set_mask(Bitmask mask) override { master_->set_mask(std::move(mask)); }
  Encoded encode() const override { return master_->encode(); }
  std::string form() const override { return master_->form(); }
  std::string element() const override { return master_->element(); }
  int64_t nonzeros() const override { return master_->nonzeros(); }
  int64_t pruned() const override { return master_->pruned(); }

 protected:
  Tensor compute() const override { return rounded(); }
  uint64_t version() const override { return master_->parameter()->version; }

 private:
  const Weight& used() const;

  std::shared_ptr<Weight> master_;
  Round round_;
  std::shared_ptr<const std::atomic<bool>> active_;
};

// Integers that stay, with scales that are trained. The parameter is a factor for each scale, f32 [rows, groups], which
// begins as 1: one learning rate then suits scales of every size. Products use scales in bf16, as they are stored.
class ScaledWeight : public ComputedWeight {
 public:
  explicit ScaledWeight(QuantizedMatrix matrix);

  QuantizedMatrix matrix() const;  // with the scales that products use

  // Adds d(factor)[r, g] = scale[r, g] * sum over c in g of integers[r, c] * (dy^T x)[r, c].
  void add_dw(kernels::ConstView dy, kernels::ConstView x) override;
  Parameter* parameter() override { return &factors_; }
  Tensor to_dense() const override { return dequantize(matrix()); }
  Bitmask mask() const override { return start_.mask; }
  Encoded encode() const override;  // packed
  std::string form() const override { return "scaled"; }
  std::string element() const override;
  int64_t nonzeros() const override;
  int64_t pruned() const override { return start_.mask ? start_.mask.left_out() : 0; }

 protected:
  Tensor compute() const override { return dequantize(matrix()); }
  uint64_t version() const override { return factors_.version; }

 private:
  QuantizedMatrix start_;
  Parameter factors_;
};

// What pack_integers() was given, of a packed weight of an element with scales.
QuantizedMatrix unpack_integers(const Weight& packed);

}  // namespace hone
