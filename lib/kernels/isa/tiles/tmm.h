// The processor's own tile instructions, as EmulatedTiles (kernels/tiles/emulation.h) has them. As assembly: the
// intrinsics of GCC 12 do not say which memory a load reads, so that what was written just before may come later, and
// this way no compiler needs a flag for them.
#pragma once

#include <cstdint>

#include "kernels/tiles/unit.h"

#if defined(HONE_ISA_avx512_bf16)

namespace hone::kernels::HONE_ISA {

struct Tmm {
  static void load_config(const tiles::TileConfig& config) { asm volatile("ldtilecfg %0" : : "m"(config)); }
  static void release() { asm volatile("tilerelease" : : : "memory"); }
  template <int tile>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(tile));
  }
  template <int tile>
  static void load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(tile) : "memory");
  }
  template <int tile>
  static void store(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(tile) : "memory");
  }
  // sum += a b of bf16 pairs; of signed times unsigned bytes.
  template <int sum, int a, int b>
  static void dot_halves() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(a), "i"(b));
  }
  template <int sum, int a, int b>
  static void dot_bytes() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(a), "i"(b));
  }
};

}  // namespace hone::kernels::HONE_ISA

#endif
