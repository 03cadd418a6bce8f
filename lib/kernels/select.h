// Which instruction set's functions to use: each subject (elementwise, attention, packed) has a table of functions, made by one
// maker a set; select() picks the maker for isa().
#pragma once

#include "base/cpu.h"

namespace hone::kernels {

template <class Table>
struct Makers {
  Table (*portable)();
  Table (*avx2)() = nullptr;
  Table (*avx512)() = nullptr;
  Table (*avx512_bf16)() = nullptr;
};

// The highest set that is at or below isa() and was compiled into this program.
template <class Table>
Table select(const Makers<Table>& makers) {
  const Isa level = isa();
  if (level >= Isa::avx512_bf16 && makers.avx512_bf16) return makers.avx512_bf16();
  if (level >= Isa::avx512 && makers.avx512) return makers.avx512();
  if (level >= Isa::avx2 && makers.avx2) return makers.avx2();
  return makers.portable();
}

}  // namespace hone::kernels
