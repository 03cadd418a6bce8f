// fp8: bytes with the sign, 4 bits of an exponent and 3 of a mantissa.
#include "kernels/isa/packed/floats.h"
#include "kernels/isa/packed/set_element.h"

namespace hone::kernels::HONE_ISA {

template <>
struct Sources<element_named("fp8")> {
  using Panels = DenseFloats<element_named("fp8")>;
  using Bitmask = SparseFloats<element_named("fp8")>;
};
template void set_element<element_named("fp8")>(PackedTable&);

}  // namespace hone::kernels::HONE_ISA
