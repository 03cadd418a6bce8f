#include "kernels/packed/scale_search.h"

#include "kernels/isa/kernel_set.h"

namespace hone::kernels {

const ScaleSearch& scale_search() {
  return kernel_set().scale_search;
}

}  // namespace hone::kernels
