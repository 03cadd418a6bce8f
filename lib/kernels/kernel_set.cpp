#include "kernels/isa/kernel_set.h"

#include <iterator>

#include "base/cpu.h"
#include "kernels/isa/function.h"

namespace hone::kernels {

size_t set_in_use() {
#define HONE_SET(name) Isa::name,
  static constexpr Isa sets[] = {HONE_KERNEL_SETS};
#undef HONE_SET
  const Isa level = isa();
  size_t highest = 0;
  for (size_t i = 0; i < std::size(sets); ++i)
    if (sets[i] <= level) highest = i;
  return highest;
}

const KernelSet& kernel_set() {
  return functions<KernelSet>();
}

}  // namespace hone::kernels
