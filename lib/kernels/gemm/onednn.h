// Products through oneDNN. Each function returns false where oneDNN is not there or does not take the case.
#pragma once

#include "kernels/view.h"

namespace hone::kernels::onednn {

bool available();    // whether it was there when this was built
int64_t compiled();  // sizes of products that this thread keeps compiled

bool gemm(ConstView a, bool transpose_a, ConstView b, bool transpose_b, View c, bool accumulate);
bool gemm_panels(ConstView a, const bf16* panels, int64_t n, int64_t k, View c);

}  // namespace hone::kernels::onednn
