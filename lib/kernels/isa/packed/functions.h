// The parts from which packed_table() is put together.
#pragma once

#include "kernels/packed/table.h"

namespace hone::kernels::HONE_ISA {

void set_integer_products(PackedTable& table);  // largest, quantize, product[.][int8, int4]
void set_bf16_products(PackedTable& table);     // round, product[.][bf16]
void set_f32_products(PackedTable& table);      // product_f32, expand_f32; after the others
void set_expansions(PackedTable& table);        // expand
void set_rows(PackedTable& table);              // widen, narrow

}  // namespace hone::kernels::HONE_ISA
