// What the instruction set that a file is compiled for has, where the compiler has no name of its own for it, and the
// intrinsics of Arm's sets. `portable` stays without them there, too: it is what the others are compared with. Included
// only by files of kernels/isa/.
#pragma once

#if defined(HONE_ISA_neon) || defined(HONE_ISA_neon_dot) || defined(HONE_ISA_neon_bf16)
#define HONE_NEON 1
#include <arm_neon.h>

#if !defined(HONE_ISA_neon)
#define HONE_NEON_DOT 1  // dot products of signed bytes
#endif
#if defined(HONE_ISA_neon_bf16)
#define HONE_NEON_BF16 1  // and of unsigned with signed bytes, and of bf16
#endif
#endif

// Whether the set multiplies pairs of bf16.
#if defined(__AVX512BF16__) || defined(HONE_NEON_BF16)
#define HONE_BF16_DOTS 1
#endif
