// The functions of kernels/packed/scale_search.h for one instruction set.
#pragma once

#include "kernels/packed/scale_search.h"

namespace hone::kernels {

namespace portable {
ScaleSearch scale_search_table();
}
namespace avx2 {
ScaleSearch scale_search_table();
}
namespace avx512 {
ScaleSearch scale_search_table();
}
namespace avx512_bf16 {
ScaleSearch scale_search_table();
}

}  // namespace hone::kernels
