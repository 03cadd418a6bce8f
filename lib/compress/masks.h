// Masks of pruned matrices: one bit a weight, set where it is kept, in the layout of Weight::mask(): row after row,
// least significant bit first, each row padded with zeros to a byte, u8 [rows, (cols + 7) / 8].
#pragma once

#include <cstdint>
#include <string>

#include "tensor/tensor.h"

namespace hone {

inline int64_t mask_row_bytes(int64_t cols) {
  return (cols + 7) / 8;
}

Tensor full_mask(int64_t rows, int64_t cols);          // everything kept
Tensor mask_of_nonzeros(const Tensor& weight);         // kept where `weight`, f32 [rows, cols], is not zero
Tensor pack_mask(const Tensor& kept);                  // u8 [rows, cols], zero or not, to bits
Tensor expand_mask(const Tensor& mask, int64_t cols);  // bits to u8 [rows, cols] of 0 and 1

int64_t count_kept(const Tensor& mask);
// 1 - kept / all; 0 for a matrix without elements.
double mask_sparsity(const Tensor& mask, int64_t cols);

// Kept where both keep.
Tensor combine_masks(const Tensor& a, const Tensor& b);

// Writes zeros (never -0) over the pruned weights of f32 [rows, cols], in place.
void apply_mask(const Tensor& weight, const Tensor& mask);

// Throws Error(input), naming `where`, unless `mask` is u8, has the shape for [rows, cols], and keeps nothing in its
// padding.
void check_mask(const Tensor& mask, int64_t rows, int64_t cols, const std::string& where);

}  // namespace hone
