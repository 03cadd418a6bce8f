// Quantization of a matrix to small integers with a scale for each row or group of columns.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "tensor/tensor.h"
#include "weights/quantized_matrix.h"

namespace hone {

struct QuantizeOptions {
  kernels::PackedElement element = kernels::element_named("int8");  // one that is scaled
  int64_t group = 0;                                                // 32, 64 or 128 columns; 0: the whole row
  bool search = true;  // false: the scale that just reaches the largest weight
};

// Quantizes `weight`, f32 [rows, cols].
//
// The scale of each (row, group) is the bf16 number with the least sum_j m_j (w_j - s q_j)^2, where q_j is the
// element's integer nearest to w_j / s. The bf16 numbers themselves are tried, in blocks downwards and upwards from the
// one that reaches the largest weight, until what is clipped (or lies below the scale) alone costs more than the best
// so far, so there is nothing left to refine or round. (Upwards it also ends where a block leaves more than twice the
// best.) Where an element reaches farther on one side, both signs are tried: -8 … 7 then fits a group whose largest
// weight is of either sign, and against the best -7 … 7 this takes a fifth off the squared error of normal weights in
// groups of 32.
//
// `moments`: E[x_j^2] of each input column over the calibration tokens, [cols], or empty for m_j = 1; a group in which
// all its moments are 0 counts as m_j = 1. `mask` may be empty; a pruned weight's integer is 0 and
// its error does not count.
//
// Throws Error(usage) for an element without scales or another group; Error(input), naming `where`, for weights or
// moments that are not finite, negative moments, or a mask of another shape.
QuantizedMatrix quantize_matrix(const Tensor& weight, const QuantizeOptions& options, const std::string& where,
                                std::span<const float> moments = {}, const Bitmask& mask = {});

// sum m_j (w_ij - w'_ij)^2 and sum m_j w_ij^2 over the kept weights.
struct QuantizationError {
  double squared_error = 0, squared_norm = 0;
  double relative() const { return squared_norm > 0 ? squared_error / squared_norm : 0; }
};

QuantizationError quantization_error(const Tensor& weight, const QuantizedMatrix& matrix,
                                     std::span<const float> moments = {});

}  // namespace hone
