// Panels: what matrices are cut into for products. A panel holds 64 rows of W, outputs of y = x W^T, side by side, so
// that one broadcast of an activation meets 64 weights: [rows/64][cols/k][64][k], where k columns share a 32-bit lane.
#pragma once

#include <cstdint>

namespace hone::kernels {

inline constexpr int64_t panel_rows = 64;
inline constexpr int64_t half_columns = 32;  // columns of bf16 panels are padded to this (oneDNN's BA16a64b2a)

}  // namespace hone::kernels
