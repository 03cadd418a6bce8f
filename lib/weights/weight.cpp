#include "weights/weight.h"

#include "base/error.h"

namespace hone {

void Weight::matmul_dx(kernels::ConstView, kernels::View) const {
  throw usage_error("a {} {} weight cannot be trained through; start from the model before it was quantized", form(), element());
}

void Weight::add_dw(kernels::ConstView, kernels::ConstView) {}

}  // namespace hone
