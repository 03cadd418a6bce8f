// ternary: two bits, q + 1; the fourth code stands for nothing that is written.
#include "kernels/isa/packed/codes.h"
#include "kernels/isa/packed/set_element.h"

namespace hone::kernels::HONE_ISA {

template <>
struct Sources<element_named("ternary")> : CodeSources<element_named("ternary")> {};
template void set_element<element_named("ternary")>(PackedTable&);

}  // namespace hone::kernels::HONE_ISA
