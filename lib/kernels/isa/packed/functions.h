// The parts of which the table of packed weights is put together.
#pragma once

#include "kernels/packed/table.h"

namespace hone::kernels::HONE_ISA {

void set_activations(PackedTable& table);  // all but forms

// forms[.][element]; elements/ has a file for each, and one that is missing does not link.
template <PackedElement element>
void set_element(PackedTable& table);

}  // namespace hone::kernels::HONE_ISA
