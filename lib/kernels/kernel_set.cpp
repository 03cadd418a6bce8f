#include <iterator>

#include "base/cpu.h"
#include "kernels/isa/kernel_set.h"

// HONE_KERNEL_SETS is HONE_SET(name) for each instruction set compiled into this program, the lowest first (isa.cmake).
// Macros, since what differs between their makers is a namespace, and a template takes none.
#define HONE_SET(name)                \
  namespace hone::kernels::name {     \
  void set_functions(KernelSet& set); \
  }
HONE_KERNEL_SETS
#undef HONE_SET

namespace hone::kernels {
namespace {

template <void (*maker)(KernelSet&)>
const KernelSet& kept() {
  static const KernelSet set = [] {
    KernelSet made{};
    maker(made);
    return made;
  }();
  return set;
}

struct Entry {
  Isa isa;
  const KernelSet& (*set)();  // makes it: only where the processor can run its code
};

#define HONE_SET(name) {Isa::name, kept<name::set_functions>},
constexpr Entry entries[] = {HONE_KERNEL_SETS};
#undef HONE_SET

}  // namespace

const KernelSet& kernel_set() {
  const Isa level = isa();
  const Entry* highest = std::begin(entries);
  for (const Entry& entry : entries)
    if (entry.isa <= level) highest = &entry;
  return highest->set();
}

}  // namespace hone::kernels
