// A trainable f32 matrix, optionally with a mask: the forms "dense" and "masked".
#pragma once

#include <atomic>
#include <mutex>

#include "weights/weight.h"

namespace hone {

// Products in bf16 and in 8 bits run on copies in panels (kernels/rows/elementwise.h, kernels/gemm/int8.h), made when
// first needed after the master changed: once a step in training, once in all in inference, by the first thread that
// needs them.
class DenseWeight : public Weight {
 public:
  // value [rows, cols] f32; the mask may be empty. Where the mask is 0 the value becomes 0 (on a copy, if
  // `value` is a mapped file).
  explicit DenseWeight(Tensor value, Bitmask mask = {});

  int64_t rows() const override { return parameter_.value.dim(0); }
  int64_t cols() const override { return parameter_.value.dim(1); }
  void matmul(kernels::ConstView x, kernels::View y) const override;
  std::optional<kernels::PackedMatrix> packed(DType x) const override;
  std::optional<kernels::PackedMatrix> integers(bool transposed) const override;
  void matmul_dx(kernels::ConstView dy, kernels::View dx) const override;
  void add_dw(kernels::ConstView dy, kernels::ConstView x) override;
  void gather(std::span<const int32_t> ids, kernels::View out) const override;
  Parameter* parameter() override { return &parameter_; }
  bool trainable() const override { return true; }
  Tensor to_dense() const override { return parameter_.value; }
  Bitmask mask() const override { return mask_; }
  void set_mask(Bitmask mask) override;
  Encoded encode() const override;
  std::string form() const override { return mask_ ? "masked" : "dense"; }
  std::string element() const override { return "f32"; }
  int64_t stored_bytes() const override;
  int64_t nonzeros() const override;
  int64_t pruned() const override { return mask_ ? mask_.left_out() : 0; }

 private:
  struct Panels {
    std::mutex mutex;  // of who packs
    Tensor data;
    Tensor scales;                    // of integers
    std::atomic<uint64_t> packed{0};  // the version that `data` was made of, plus 1; 0: none
  };
  // Calls pack(outputs, inputs) where `which` is not of the values that there are now.
  template <class Pack>
  void keep_current(Panels& which, bool transposed, Pack&& pack) const;
  const bf16* panels(Panels& which, bool transposed) const;
  kernels::PackedMatrix panel_matrix(const bf16* data) const;

  Parameter parameter_;
  Bitmask mask_;
  mutable Panels forward_, backward_, integers_forward_, integers_backward_;
};

// A mapped file cannot be written: training works on a copy.
void make_writable(Tensor& tensor);

}  // namespace hone
