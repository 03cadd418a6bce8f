// Weights stored and executed packed: a layout (panels, bitmask) x an element (kernels/packed/element.h).
// kernels/packed/packed.h describes the bytes.
#pragma once

#include <memory>
#include <string>

#include "weights/quantized_matrix.h"
#include "weights/weight.h"

namespace hone {

// The arrays of the encoded form:
//   values   u8, or bf16 [n]   panels: panels * panel_bytes; bitmask: the kept elements and 64 bytes of slack
//   mask     u8 [panels, steps, 4, 8], or 4 for bf16        bitmask only: tile masks, their lowest byte first
//   offsets  u64 [panels + 1]                              bitmask only: bytes
//   scales   bf16 [panels, groups, 64]                     scaled elements only
//   kept     u8 [rows, (cols + 7) / 8]                     panels only, optional: the mask of a matrix that a bitmask
//                                                          would make larger
// and the attributes "group" (of scaled elements) and activation_bits_attribute (of integers, optional).
class PackedWeight : public Weight {
 public:
  // Takes the arrays as they are, without a copy. Throws Error(input), naming `where`, unless sizes, offsets and masks
  // agree with the shape: no later product reads outside the arrays, whatever they hold.
  PackedWeight(const Encoded& encoded, const std::string& where);

  int64_t rows() const override { return matrix_.shape.rows; }
  int64_t cols() const override { return matrix_.shape.cols; }
  void matmul(kernels::ConstView x, kernels::View y) const override;
  std::optional<kernels::PackedMatrix> packed(DType) const override { return matrix_; }
  void set_rounding(const kernels::ActivationRounding& rounding) override;
  int activation_bits() const override;
  void gather(std::span<const int32_t> ids, kernels::View out) const override;
  Tensor to_dense() const override;
  Bitmask mask() const override;  // kept elements, also those whose value is 0
  Encoded encode() const override { return encoded_; }
  std::string form() const override { return encoded_.form; }
  std::string element() const override { return encoded_.element; }
  int64_t stored_bytes() const override;  // without `kept`, which products do not read
  int64_t nonzeros() const override;
  int64_t pruned() const override;
  int64_t group() const { return matrix_.shape.group; }

 private:
  Encoded encoded_;
  std::optional<int> stored_bits_;  // of activations
  kernels::PackedMatrix matrix_;
};

// Weights from plain arrays. With a mask, elements outside it count as 0 and the layout is bitmask where that is
// smaller, else panels with the mask kept beside. Throw Error(internal) if sizes or values do not fit what is said
// above.
std::shared_ptr<Weight> pack_integers(const QuantizedMatrix& matrix);
// `dense` f32 [rows, cols], each rounded to the nearest number of an element without scales; and of bf16.
std::shared_ptr<Weight> pack_numbers(kernels::PackedElement element, const Tensor& dense, const Bitmask& mask);
std::shared_ptr<Weight> pack_bf16(const Tensor& dense, const Bitmask& mask);
// Whether the layout of a matrix of which a mask keeps that part is bitmask.
bool bitmask_is_smaller(kernels::PackedElement element, double kept);

// The rows of the table of forms that this file adds. Throws Error(input) naming `where`.
std::shared_ptr<Weight> decode_packed(const Encoded& encoded, const std::string& where);

}  // namespace hone
