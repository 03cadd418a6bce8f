// Products of f32 rows with f32 rows, for one instruction set: what GemmTable::rows runs.
#pragma once

#include "kernels/isa/gemm/table.h"

namespace hone::kernels::HONE_ISA {

void row_products(const RowProducts& p);

}  // namespace hone::kernels::HONE_ISA
