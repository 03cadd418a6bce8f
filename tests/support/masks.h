// Masks for tests.
#pragma once

#include "tensor/bitmask.h"
#include "tensor/tensor.h"

namespace hone::test {

// Kept where `weight`, f32 [rows, cols], is not zero.
inline Bitmask mask_of_nonzeros(const Tensor& weight) {
  const Bitmask mask = Bitmask::zeros(weight.dim(0), weight.dim(1));
  for (int64_t i = 0; i < weight.size(); ++i)
    if (weight.data<float>()[i] != 0) mask.set(i / weight.dim(1), i % weight.dim(1));
  return mask;
}

// Of all that `inner` keeps, `outer` keeps every element.
inline bool within(const Bitmask& inner, const Bitmask& outer) {
  for (int64_t r = 0; r < inner.rows(); ++r)
    for (int64_t c = 0; c < inner.cols(); ++c)
      if (inner.at(r, c) && !outer.at(r, c)) return false;
  return true;
}

}  // namespace hone::test
