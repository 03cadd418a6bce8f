#include "kernels/packed/scale_search.h"

#include "kernels/isa/packed/scale_search_table.h"
#include "kernels/select.h"

namespace hone::kernels {

ScaleSearch scale_search() {
  return HONE_TABLE_IN_USE(scale_search_table);
}

}  // namespace hone::kernels
