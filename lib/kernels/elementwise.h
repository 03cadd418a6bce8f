// Loops over numbers: conversions, sums, norms, activations, the optimizer. Rows are split over threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/view.h"

namespace hone::kernels {

void zero(void* data, size_t bytes);
void convert(ConstView from, View to);  // f32 <-> bf16, or a copy; same rows and cols
void add(View into, ConstView from);    // into += from; same type

}  // namespace hone::kernels
