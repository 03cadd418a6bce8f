// Products of f32 rows with f32 rows, for one instruction set below avx512: what GemmTable::rows and turn run.
#pragma once

#include "kernels/isa/gemm/table.h"

namespace hone::kernels::HONE_ISA {

void row_products(const RowProducts& p);
void turn_panels(const float* columns, int64_t groups, float* panels);

}  // namespace hone::kernels::HONE_ISA
