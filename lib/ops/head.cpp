#include "ops/head.h"

#include "kernels/rows/elementwise.h"

namespace hone::ops {

void Head::logits(kernels::ConstView rows, kernels::View logits) const {
  weight->matmul(rows, logits);
  if (softcap > 0) kernels::softcap(logits, logits, softcap);
}

}  // namespace hone::ops
