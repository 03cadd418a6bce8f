// The set of one instruction set; kernels/kernel_set.cpp asks for it.
#include "kernels/isa/kernel_set.h"

#include "kernels/isa/function.h"
#include "kernels/isa/set_functions.h"

namespace hone::kernels::HONE_ISA {

template <>
KernelSet functions_of<KernelSet>() {
  KernelSet set{};
  set_functions(set.attention);
  set_functions(set.ceilings);
  set_functions(set.elementwise);
  set_functions(set.gemm);
  set_functions(set.packed);
  set_functions(set.routing);
  set_functions(set.scale_search);
  return set;
}

}  // namespace hone::kernels::HONE_ISA
