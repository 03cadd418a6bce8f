// The subjects of one instruction set, a table each; a kernel by itself needs no place here (function.h). Plain structs
// only: shared by files compiled with different flags.
#pragma once

#include "kernels/isa/attention/table.h"
#include "kernels/isa/ceilings_table.h"
#include "kernels/isa/gemm/table.h"
#include "kernels/isa/routing/table.h"
#include "kernels/isa/rows/elementwise_table.h"
#include "kernels/packed/scale_search.h"
#include "kernels/packed/table.h"

namespace hone::kernels {

struct KernelSet {
  AttentionKernels attention;
  CeilingFunctions ceilings;
  ElementwiseTable elementwise;
  GemmTable gemm;
  PackedTable packed;
  RoutingTable routing;
  ScaleSearch scale_search;
};

// Of the highest set compiled into this program at or below isa(). Made when it is first asked for, and kept.
const KernelSet& kernel_set();

}  // namespace hone::kernels
