#include "kernels/isa/kernel_set.h"

#include "kernels/compiled_sets.h"
#include "kernels/isa/function.h"

namespace hone::kernels {

std::span<const Isa> compiled_sets() {
#define HONE_SET(name) Isa::name,
  static constexpr Isa sets[] = {HONE_KERNEL_SETS};
#undef HONE_SET
  return sets;
}

size_t set_in_use() {
  const Isa level = isa();
  size_t highest = 0;
  for (size_t i = 0; i < compiled_sets().size(); ++i)
    if (compiled_sets()[i] <= level) highest = i;
  return highest;
}

const KernelSet& kernel_set() {
  return functions<KernelSet>();
}

}  // namespace hone::kernels
