// nf4: nibbles, the places of 16 values.
#include "kernels/isa/packed/nibbles.h"
#include "kernels/isa/packed/set_element.h"

namespace hone::kernels::HONE_ISA {

template <>
struct Sources<element_named("nf4")> {
  using Panels = Nibbles<element_named("nf4")>;
  using Bitmask = SparseNibbles<element_named("nf4")>;
};
template void set_element<element_named("nf4")>(PackedTable&);

}  // namespace hone::kernels::HONE_ISA
