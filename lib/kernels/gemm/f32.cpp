#include "kernels/gemm/f32.h"

#include <algorithm>

#include "base/cpu.h"
#include "base/integers.h"
#include "kernels/isa/kernel_set.h"
#include "kernels/parallel.h"
#include "kernels/scratch.h"

namespace hone::kernels::own {
namespace {

constexpr int64_t block_bytes = 192 << 10;  // of rows of a, which stay in the second-level cache while b passes
constexpr int64_t least_columns = 32;       // of a task

static_assert(panel_outputs == RowProducts::outputs && panel_terms == RowProducts::terms &&
              column_outputs == RowProducts::expanded);

thread_local Scratch row_scratch;

// b's outputs begin `step` elements after one another.
void multiply(ConstView a, const float* b, int64_t b_stride, int64_t step, View c, Held held) {
  const auto rows = kernel_set().gemm.rows;
  const int64_t k = a.cols, fitting = block_bytes / (4 * std::max<int64_t>(k, 1)) / 6 * 6;
  const int64_t blocks = ceil_div(a.rows, std::clamp<int64_t>(fitting, 48, 384));
  const int64_t block = ceil_div(ceil_div(a.rows, blocks), 6) * 6;
  const int64_t wanted = std::max<int64_t>(1, 4 * threads() / blocks);
  const int64_t columns = std::max(least_columns, ceil_div(ceil_div(c.cols, wanted), least_columns) * least_columns);
  const int64_t cuts = threads() > 1 ? ceil_div(c.cols, columns) : 1;
  const int64_t width = cuts == 1 ? c.cols : columns;
  parallel_each(blocks * cuts, [&](int64_t task) {
    const int64_t row = task / cuts * block, first = task % cuts * width;
    const int64_t m = std::min(block, a.rows - row), n = std::min(width, c.cols - first);
    if (m <= 0 || n <= 0) return;
    float* room = row_scratch.array<float>(RowProducts::room_for(m, k));
    rows({a.row<float>(row), a.stride, m, b + first * step, b_stride, n, k, c.row<float>(row) + first, c.stride, room,
          held});
  });
}

}  // namespace

bool multiplies_f32() {
  return isa() < Isa::avx512;
}

bool multiplies_rows(ConstView a, bool transpose_a, ConstView b, bool transpose_b, ConstView c, bool accumulate) {
  return multiplies_f32() && !transpose_a && transpose_b && !accumulate && a.dtype == DType::f32 &&
         b.dtype == DType::f32 && c.dtype == DType::f32;
}

void gemm_rows(ConstView a, ConstView b, View c) {
  multiply(a, b.row<float>(0), b.stride, b.stride, c, Held::rows);
}

void gemm_panels(ConstView a, const float* b, View c) {
  multiply(a, b, 0, round_up(a.cols, panel_terms), c, Held::panels);
}

void turn_to_panels(const float* columns, int64_t k, float* panels) {
  kernel_set().gemm.turn(columns, ceil_div(k, panel_terms), panels);
}

}  // namespace hone::kernels::own
