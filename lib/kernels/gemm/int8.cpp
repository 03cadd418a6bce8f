#include "kernels/gemm/int8.h"

#include "kernels/isa/function.h"
#include "kernels/isa/gemm/int8.h"
#include "kernels/parallel.h"

namespace hone::kernels {
namespace {

PackedShape int8_shape(int64_t n, int64_t k) {
  return packed_shape(element_named("int8"), n, k, 0);
}

}  // namespace

Int8Sizes int8_sizes(int64_t n, int64_t k) {
  const PackedShape s = int8_shape(n, k);
  return {s.panels * s.panel_bytes, s.panels * panel_rows};
}

void pack_int8(ConstView w, bool transposed, uint8_t* values, bf16* scales) {
  const auto& f = functions<Int8Functions>();
  const PackedShape s = transposed ? int8_shape(w.cols, w.rows) : int8_shape(w.rows, w.cols);
  parallel_for(s.panels, row_grain(s.cols * panel_rows), [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel)
      f.pack(w, transposed, panel * panel_rows, values + panel * s.panel_bytes, scales + panel * panel_rows);
  });
}

PackedMatrix int8_matrix(int64_t n, int64_t k, const uint8_t* values, const bf16* scales) {
  PackedMatrix matrix{PackedLayout::panels, element_named("int8"), int8_shape(n, k)};
  matrix.values = values;
  matrix.scales = scales;
  return matrix;
}

}  // namespace hone::kernels
