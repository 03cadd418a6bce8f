// A trainable f32 matrix, optionally with a mask: the forms "dense" and "masked".
#pragma once

#include "weights/weight.h"

namespace hone {

// bf16 products run on copies in panels (kernels/rows/elementwise.h), made when first needed after the master changed:
// once a step in training, once in all in inference.
class DenseWeight : public Weight {
 public:
  // value [rows, cols] f32; mask as Weight::mask(), or empty. Where the mask is 0 the value becomes 0 (on a copy, if
  // `value` is a mapped file).
  explicit DenseWeight(Tensor value, Tensor mask = {});

  int64_t rows() const override { return parameter_.value.dim(0); }
  int64_t cols() const override { return parameter_.value.dim(1); }
  void matmul(kernels::ConstView x, kernels::View y) const override;
  std::optional<kernels::PackedMatrix> packed(DType x) const override;
  void matmul_dx(kernels::ConstView dy, kernels::View dx) const override;
  void add_dw(kernels::ConstView dy, kernels::ConstView x) override;
  void gather(std::span<const int32_t> ids, kernels::View out) const override;
  Parameter* parameter() override { return &parameter_; }
  Tensor to_dense() const override { return parameter_.value; }
  Tensor mask() const override { return mask_; }
  void set_mask(Tensor mask) override;
  Encoded encode() const override;
  std::string form() const override { return mask_ ? "masked" : "dense"; }
  std::string element() const override { return "f32"; }
  int64_t stored_bytes() const override;
  int64_t nonzeros() const override;
  int64_t pruned() const override { return mask_ ? rows() * cols() - kept_elements(mask_, rows(), cols()) : 0; }

 private:
  struct Panels {
    Tensor data;
    uint64_t version = ~uint64_t{0};
  };
  const bf16* panels(Panels& which, bool transposed) const;
  kernels::PackedMatrix panel_matrix(const bf16* data) const;

  Parameter parameter_;
  Tensor mask_;
  mutable Panels forward_, backward_;
};

// A mapped file cannot be written: training works on a copy.
void make_writable(Tensor& tensor);

}  // namespace hone
