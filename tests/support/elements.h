// Numbers of the elements of packed weights.
#pragma once

#include <cstdint>

#include "base/random.h"
#include "kernels/packed/element.h"

namespace hone::test {

// Of those that have a code, each as often.
inline int8_t random_integer(kernels::PackedElement element, Random& random) {
  const kernels::ElementInfo& info = kernels::info_of(element);
  const auto code = static_cast<int>(random.below(static_cast<uint64_t>(info.codes())));
  const int q = info.integer_of(code);
  return static_cast<int8_t>(q < info.lowest || q > info.highest ? 0 : q);  // int8 and ternary have a code too many
}

}  // namespace hone::test
