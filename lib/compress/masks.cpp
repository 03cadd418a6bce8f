#include "compress/masks.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"
#include "kernels/parallel.h"

namespace hone {
namespace {

// Bits of a row from kept(column); the padding stays zero.
template <class F>
void write_bits(uint8_t* bits, int64_t cols, F&& kept) {
  for (int64_t c = 0; c < cols; c += 8) {
    unsigned byte = 0;
    const int64_t n = std::min<int64_t>(8, cols - c);
    for (int64_t i = 0; i < n; ++i) byte |= static_cast<unsigned>(kept(c + i)) << i;
    bits[c / 8] = static_cast<uint8_t>(byte);
  }
}

template <class T>
Tensor pack_nonzeros(const Tensor& values) {
  const int64_t rows = values.dim(0), cols = values.dim(1), bytes = mask_row_bytes(cols);
  Tensor mask = Tensor::empty({rows, bytes}, DType::u8);
  const T* from = values.data<T>();
  uint8_t* to = mask.data<uint8_t>();
  kernels::parallel_for(rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      write_bits(to + r * bytes, cols, [row = from + r * cols](int64_t c) { return row[c] != T{0}; });
  });
  return mask;
}

}  // namespace

Tensor full_mask(int64_t rows, int64_t cols) {
  const int64_t bytes = mask_row_bytes(cols);
  Tensor mask = Tensor::empty({rows, bytes}, DType::u8);
  for (int64_t r = 0; r < rows; ++r) write_bits(mask.data<uint8_t>() + r * bytes, cols, [](int64_t) { return true; });
  return mask;
}

Tensor mask_of_nonzeros(const Tensor& weight) {
  return pack_nonzeros<float>(weight);
}

Tensor pack_mask(const Tensor& kept) {
  return pack_nonzeros<uint8_t>(kept);
}

Tensor expand_mask(const Tensor& mask, int64_t cols) {
  const int64_t rows = mask.dim(0), bytes = mask_row_bytes(cols);
  assert(mask.dim(1) == bytes);
  Tensor expanded = Tensor::empty({rows, cols}, DType::u8);
  const uint8_t* bits = mask.data<uint8_t>();
  uint8_t* out = expanded.data<uint8_t>();
  kernels::parallel_for(rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < cols; ++c)
        out[r * cols + c] = static_cast<uint8_t>((bits[r * bytes + c / 8] >> (c % 8)) & 1);
  });
  return expanded;
}

int64_t count_kept(const Tensor& mask) {
  const uint8_t* bits = mask.data<uint8_t>();
  int64_t kept = 0, i = 0;
  for (; i + 8 <= mask.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, bits + i, 8);
    kept += std::popcount(word);
  }
  for (; i < mask.size(); ++i) kept += std::popcount(bits[i]);
  return kept;
}

double mask_sparsity(const Tensor& mask, int64_t cols) {
  const int64_t all = mask.dim(0) * cols;
  return all ? 1.0 - static_cast<double>(count_kept(mask)) / static_cast<double>(all) : 0.0;
}

Tensor combine_masks(const Tensor& a, const Tensor& b) {
  assert(a.shape() == b.shape());
  Tensor both = Tensor::empty(a.shape(), DType::u8);
  const uint8_t *x = a.data<uint8_t>(), *y = b.data<uint8_t>();
  uint8_t* out = both.data<uint8_t>();
  for (int64_t i = 0; i < both.size(); ++i) out[i] = x[i] & y[i];
  return both;
}

void apply_mask(const Tensor& weight, const Tensor& mask) {
  const int64_t rows = weight.dim(0), cols = weight.dim(1), bytes = mask_row_bytes(cols);
  assert(mask.dim(0) == rows && mask.dim(1) == bytes);
  float* w = weight.data<float>();
  const uint8_t* bits = mask.data<uint8_t>();
  kernels::parallel_for(rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < cols; ++c) {
        const bool kept = (bits[r * bytes + c / 8] >> (c % 8)) & 1;
        w[r * cols + c] = kept ? w[r * cols + c] : 0.0f;
      }
  });
}

void check_mask(const Tensor& mask, int64_t rows, int64_t cols, const std::string& where) {
  const Shape shape{rows, mask_row_bytes(cols)};
  if (mask.dtype() != DType::u8 || mask.shape() != shape)
    throw input_error("{}: the mask is {} {}, but a matrix of {} x {} needs u8 {}", where, name_of(mask.dtype()),
                      to_string(mask.shape()), rows, cols, to_string(shape));
  if (cols % 8 == 0) return;
  const unsigned padding = 0xffu << (cols % 8);
  for (int64_t r = 0; r < rows; ++r)
    if (mask.data<uint8_t>()[(r + 1) * shape[1] - 1] & padding & 0xffu)
      throw input_error("{}: the mask's row {} keeps elements beyond column {}; the file is damaged", where, r, cols);
}

}  // namespace hone
