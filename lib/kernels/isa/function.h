// Functions that every instruction set has, found without a list of them. A struct of pointers says what they are; a
// file of kernels/isa/, compiled for each set, specializes functions_of() for it with the functions of that set; and
// functions() gives those of the set in use. A set without them does not link.
#pragma once

#include <cstddef>

#if defined(HONE_ISA)  // a file of kernels/isa/

namespace hone::kernels::HONE_ISA {

template <class Functions>
Functions functions_of();

}  // namespace hone::kernels::HONE_ISA

#else  // a file of kernels/ that calls them

// HONE_KERNEL_SETS is HONE_SET(name) for each instruction set compiled into this program, the lowest first (isa.cmake).
// Macros, since what differs between the sets is a namespace, and a template takes none.
#define HONE_SET(name)            \
  namespace hone::kernels::name { \
  template <class Functions>      \
  Functions functions_of();       \
  }
HONE_KERNEL_SETS
#undef HONE_SET

namespace hone::kernels {

// The place in HONE_KERNEL_SETS of the highest set at or below isa().
size_t set_in_use();

template <class Functions, Functions (*made)()>
const Functions& kept_functions() {
  static const Functions kept = made();
  return kept;
}

// Of the set in use. Those of a set are made when they are first asked for, only where the processor can run its code,
// and kept.
template <class Functions>
const Functions& functions() {
  using Kept = const Functions& (*)();
#define HONE_SET(name) kept_functions<Functions, name::functions_of<Functions>>,
  static constexpr Kept sets[] = {HONE_KERNEL_SETS};
#undef HONE_SET
  return sets[set_in_use()]();
}

}  // namespace hone::kernels

#endif
