// int3: three bits, q + 4.
#include "kernels/isa/packed/codes.h"
#include "kernels/isa/packed/set_element.h"

namespace hone::kernels::HONE_ISA {

template <>
struct Sources<element_named("int3")> : CodeSources<element_named("int3")> {};
template void set_element<element_named("int3")>(PackedTable&);

}  // namespace hone::kernels::HONE_ISA
