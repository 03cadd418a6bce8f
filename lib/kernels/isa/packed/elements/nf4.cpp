// nf4: nibbles, the places of 16 values.
#include "kernels/isa/packed/codes.h"
#include "kernels/isa/packed/set_element.h"

namespace hone::kernels::HONE_ISA {

template <>
struct Sources<element_named("nf4")> : CodeSources<element_named("nf4")> {};
template void set_element<element_named("nf4")>(PackedTable&);

}  // namespace hone::kernels::HONE_ISA
