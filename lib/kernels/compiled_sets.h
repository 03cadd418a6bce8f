// Which instruction sets there are kernels of.
#pragma once

#include <span>

#include "base/cpu.h"

namespace hone::kernels {

// Those compiled into this program, the lowest first.
std::span<const Isa> compiled_sets();

}  // namespace hone::kernels
