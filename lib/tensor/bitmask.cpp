#include "tensor/bitmask.h"

#include <bit>
#include <cstring>

#include "base/error.h"

namespace hone {
namespace {

// Of the last byte of a row, the bits that are columns.
unsigned last_byte(int64_t cols) {
  return cols % 8 ? (1u << (cols % 8)) - 1 : 255u;
}

}  // namespace

Bitmask::Bitmask(Tensor bits, int64_t rows, int64_t cols) : cols_(cols) {
  const int64_t row_bytes = kernels::bit_row_bytes(cols);
  if (bits.dtype() != DType::u8 || bits.size() != rows * row_bytes)
    throw internal_error("a mask of {} {} does not fit a matrix of {} x {}", name_of(bits.dtype()),
                         to_string(bits.shape()), rows, cols);
  bits_ = bits.reshape({rows, row_bytes});
}

Bitmask Bitmask::zeros(int64_t rows, int64_t cols) {
  return {Tensor::zeros({rows, kernels::bit_row_bytes(cols)}, DType::u8), rows, cols};
}

Bitmask Bitmask::ones(int64_t rows, int64_t cols) {
  const Bitmask mask(Tensor::empty({rows, kernels::bit_row_bytes(cols)}, DType::u8), rows, cols);
  std::memset(mask.bits_.raw(), 255, mask.bits_.bytes());
  for (int64_t r = 0; cols > 0 && r < rows; ++r) mask.row(r + 1)[-1] = static_cast<uint8_t>(last_byte(cols));
  return mask;
}

int64_t Bitmask::count() const {
  const int64_t whole = kernels::bit_row_bytes(cols_) - 1;
  if (whole < 0) return 0;
  int64_t n = 0;
  for (int64_t r = 0; r < rows(); ++r) {
    const uint8_t* bytes = row(r);
    int64_t b = 0;
    for (; b + 8 <= whole; b += 8) {
      uint64_t word;
      std::memcpy(&word, bytes + b, 8);
      n += std::popcount(word);
    }
    for (; b < whole; ++b) n += std::popcount(bytes[b]);
    n += std::popcount(bytes[whole] & last_byte(cols_));
  }
  return n;
}

double Bitmask::sparsity() const {
  const int64_t all = rows() * cols_;
  return all ? 1.0 - static_cast<double>(count()) / static_cast<double>(all) : 0.0;
}

bool Bitmask::padding_is_zero() const {
  for (int64_t r = 0; cols_ > 0 && r < rows(); ++r)
    if (row(r + 1)[-1] & ~last_byte(cols_)) return false;
  return true;
}

Bitmask Bitmask::clone() const {
  return bits_ ? Bitmask(bits_.clone(), rows(), cols_) : Bitmask();
}

int64_t count_differences(const Bitmask& a, const Bitmask& b) {
  if (!a && !b) return 0;
  if (!a) return b.left_out();
  if (!b) return a.left_out();
  Bitmask both = a.clone();
  for (int64_t i = 0; i < both.bits().size(); ++i) both.data()[i] ^= b.data()[i];
  return both.count();
}

}  // namespace hone
