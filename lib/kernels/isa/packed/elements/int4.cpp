// int4: nibbles q + 8.
#include "kernels/isa/packed/codes.h"
#include "kernels/isa/packed/set_element.h"

namespace hone::kernels::HONE_ISA {

template <>
struct Sources<element_named("int4")> : CodeSources<element_named("int4")> {};
template void set_element<element_named("int4")>(PackedTable&);

}  // namespace hone::kernels::HONE_ISA
