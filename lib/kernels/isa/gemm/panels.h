// The loop of elementwise_table.h that lays a matrix out for products.
#pragma once

#include "kernels/rows/elementwise.h"

namespace hone::kernels::HONE_ISA {

void pack_panels(ConstView w, bool transposed, bf16* panels, int64_t begin, int64_t end);

}  // namespace hone::kernels::HONE_ISA
