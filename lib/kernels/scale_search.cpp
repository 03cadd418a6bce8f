#include "kernels/scale_search.h"

#include "kernels/isa/scale_search_table.h"
#include "kernels/select.h"

namespace hone::kernels {

ScaleSearch scale_search() {
  Makers<ScaleSearch> makers{portable::scale_search_table};
#ifdef HONE_HAS_avx2
  makers.avx2 = avx2::scale_search_table;
  makers.avx512 = avx512::scale_search_table;
  makers.avx512_bf16 = avx512_bf16::scale_search_table;
#endif
  return select(makers);
}

}  // namespace hone::kernels
