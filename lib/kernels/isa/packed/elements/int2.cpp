// int2: two bits, q + 2.
#include "kernels/isa/packed/codes.h"
#include "kernels/isa/packed/set_element.h"

namespace hone::kernels::HONE_ISA {

template <>
struct Sources<element_named("int2")> : CodeSources<element_named("int2")> {};
template void set_element<element_named("int2")>(PackedTable&);

}  // namespace hone::kernels::HONE_ISA
