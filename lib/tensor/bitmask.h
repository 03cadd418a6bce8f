// A bit for each element of a matrix: which of its weights are kept.
#pragma once

#include "kernels/bits.h"
#include "tensor/tensor.h"

namespace hone {

// Bits as kernels/bits.h lays them out, u8 [rows, (cols + 7) / 8]; as a Tensor does, copies share them. An empty one
// stands for a matrix of which nothing is pruned.
class Bitmask {
 public:
  Bitmask() = default;
  // Over these bytes. Throws Error(internal) unless they are u8 and as many as rows x cols needs.
  Bitmask(Tensor bits, int64_t rows, int64_t cols);
  static Bitmask zeros(int64_t rows, int64_t cols);
  static Bitmask ones(int64_t rows, int64_t cols);  // the padding stays 0

  explicit operator bool() const { return static_cast<bool>(bits_); }
  int64_t rows() const { return bits_.dim(0); }
  int64_t cols() const { return cols_; }
  bool fits(int64_t rows, int64_t cols) const { return bits_.dim(0) == rows && cols_ == cols; }
  const Tensor& bits() const { return bits_; }
  uint8_t* data() const { return bits_.data<uint8_t>(); }
  uint8_t* row(int64_t r) const { return data() + r * kernels::bit_row_bytes(cols_); }
  bool at(int64_t r, int64_t c) const { return kernels::bit_at(row(r), c); }
  void set(int64_t r, int64_t c) const { kernels::set_bit(row(r), c); }

  int64_t count() const;  // bits set; what the padding holds does not count
  int64_t left_out() const { return rows() * cols_ - count(); }
  double sparsity() const;  // the part of bits that are 0; 0 for a matrix without elements
  bool padding_is_zero() const;
  Bitmask clone() const;

 private:
  Tensor bits_;
  int64_t cols_ = 0;
};

// Set where just one of them is; an empty mask has all bits set. The masks are of one size.
int64_t count_differences(const Bitmask& a, const Bitmask& b);

}  // namespace hone
