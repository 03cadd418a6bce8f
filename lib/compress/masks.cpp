#include "compress/masks.h"

#include "base/error.h"
#include "kernels/parallel.h"

namespace hone {

Bitmask pack_mask(const Tensor& kept) {
  const int64_t rows = kept.dim(0), cols = kept.dim(1);
  const Bitmask mask = Bitmask::zeros(rows, cols);
  const uint8_t* from = kept.data<uint8_t>();
  kernels::parallel_for(rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < cols; ++c)
        if (from[r * cols + c]) mask.set(r, c);
  });
  return mask;
}

Tensor expand_mask(const Bitmask& mask) {
  const int64_t rows = mask.rows(), cols = mask.cols();
  Tensor expanded = Tensor::empty({rows, cols}, DType::u8);
  uint8_t* out = expanded.data<uint8_t>();
  kernels::parallel_for(rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < cols; ++c) out[r * cols + c] = mask.at(r, c);
  });
  return expanded;
}

void check_mask(const Bitmask& mask, int64_t rows, int64_t cols, const std::string& where) {
  if (!mask.fits(rows, cols))
    throw input_error("{}: the mask is one of {} x {}, but the matrix has {} x {}", where, mask.rows(), mask.cols(),
                      rows, cols);
  if (!mask.padding_is_zero())
    throw input_error("{}: the mask keeps elements beyond column {}; the file is damaged", where, cols);
}

}  // namespace hone
