// Which instruction set's functions to use: each subject (elementwise, attention, packed) has a table of functions,
// made by one maker a set, of the same name in each set's namespace.
#pragma once

#include "base/cpu.h"

namespace hone::kernels {

// What the maker of the highest set at or below isa() makes.
template <class Table>
Table select(Table (*portable)(), Table (*avx2)(), Table (*avx512)(), Table (*avx512_bf16)()) {
  const Isa level = isa();
  if (level >= Isa::avx512_bf16) return avx512_bf16();
  if (level >= Isa::avx512) return avx512();
  if (level >= Isa::avx2) return avx2();
  return portable();
}

}  // namespace hone::kernels

// The table in use, of the sets compiled into this program (isa.cmake: those of x86-64 come together). A macro, since
// what differs between the makers is a namespace, and a template takes none.
#if defined(HONE_HAS_avx2)
#define HONE_TABLE_IN_USE(maker) select(portable::maker, avx2::maker, avx512::maker, avx512_bf16::maker)
#else
#define HONE_TABLE_IN_USE(maker) portable::maker()
#endif
