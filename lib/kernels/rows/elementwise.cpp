#include "kernels/rows/elementwise.h"

#include <array>
#include <cstring>
#include <vector>

#include "kernels/bits.h"
#include "kernels/isa/kernel_set.h"
#include "kernels/panel.h"
#include "kernels/parallel.h"
#include "kernels/rows/head_norm.h"

namespace hone::kernels {
namespace {

const ElementwiseTable& table() {
  return kernel_set().elementwise;
}

int64_t panels_of(int64_t rows) {
  return (rows + panel_rows - 1) / panel_rows;
}

int64_t padded_columns(int64_t cols) {
  return (cols + half_columns - 1) / half_columns * half_columns;
}

}  // namespace

void zero(void* data, size_t bytes) {
  parallel_for(static_cast<int64_t>(bytes), 1 << 18, [&](int64_t begin, int64_t end) {
    std::memset(static_cast<char*>(data) + begin, 0, static_cast<size_t>(end - begin));
  });
}

void convert(ConstView from, View to) {
  const ElementwiseTable& t = table();
  parallel_for(from.rows, row_grain(from.cols), [&](int64_t b, int64_t e) { t.convert(from, to, b, e); });
}

void add(View into, ConstView from) {
  const ElementwiseTable& t = table();
  parallel_for(into.rows, row_grain(into.cols), [&](int64_t b, int64_t e) { t.add(into, from, b, e); });
}

void scale(View into, float factor) {
  parallel_for(into.rows, row_grain(into.cols), [&](int64_t b, int64_t e) {
    for (int64_t r = b; r < e; ++r)
      for (int64_t c = 0; c < into.cols; ++c) into.row<float>(r)[c] *= factor;
  });
}

double sum_of_squares(ConstView x) {
  const ElementwiseTable& t = table();
  // One partial sum for each block of rows, whatever the number of threads.
  const int64_t block = row_grain(x.cols), blocks = (x.rows + block - 1) / block;
  std::vector<double> partial(static_cast<size_t>(blocks));
  parallel_for(blocks, 1, [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i)
      for (int64_t r = i * block; r < std::min(x.rows, (i + 1) * block); ++r)
        partial[static_cast<size_t>(i)] += t.sum_of_squares(x.row<float>(r), x.cols);
  });
  double total = 0;
  for (double p : partial) total += p;
  return total;
}

bool all_finite(ConstView x) {
  const ElementwiseTable& t = table();
  for (int64_t r = 0; r < x.rows; ++r)
    if (!t.all_finite(x.row<float>(r), x.cols)) return false;
  return true;
}

void add_bias(View x, const float* bias) {
  const ElementwiseTable& t = table();
  parallel_for(x.rows, row_grain(x.cols), [&](int64_t b, int64_t e) { t.add_bias(x, bias, b, e); });
}

namespace {

// Runs body(begin, end, sums) over rows with one array of `width` sums for each thread, and adds those to `into` in
// order.
template <class F>
void with_partial_sums(int64_t rows, int64_t cols, size_t width, float* into, F&& body) {
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(threads(), rows / row_grain(cols)));
  if (parts == 1) return body(0, rows, into);
  std::vector<float> partial(static_cast<size_t>(parts) * width, 0.0f);
  parallel_for(parts, 1, [&](int64_t b, int64_t e) {
    for (int64_t p = b; p < e; ++p)
      body(rows * p / parts, rows * (p + 1) / parts, partial.data() + static_cast<size_t>(p) * width);
  });
  for (int64_t p = 0; p < parts; ++p)
    for (size_t i = 0; i < width; ++i) into[i] += partial[static_cast<size_t>(p) * width + i];
}

}  // namespace

void add_column_sums(ConstView x, float* sums) {
  const ElementwiseTable& t = table();
  with_partial_sums(x.rows, x.cols, static_cast<size_t>(x.cols), sums,
                    [&](int64_t b, int64_t e, float* into) { t.column_sums(x, into, b, e); });
}

void add_column_squares(ConstView x, float* sums) {
  const ElementwiseTable& t = table();
  with_partial_sums(x.rows, x.cols, static_cast<size_t>(x.cols), sums,
                    [&](int64_t b, int64_t e, float* into) { t.column_squares(x, into, b, e); });
}

void norm_forward(const NormForward& a) {
  const ElementwiseTable& t = table();
  parallel_for(a.y.rows, row_grain(a.y.cols), [&](int64_t b, int64_t e) { t.norm_forward(a, b, e); });
}

void norm_backward(const NormBackward& a) {
  const ElementwiseTable& t = table();
  const size_t dim = static_cast<size_t>(a.x.cols);
  std::vector<float> sums(2 * dim, 0.0f);
  with_partial_sums(a.x.rows, a.x.cols, 2 * dim, sums.data(), [&](int64_t b, int64_t e, float* into) {
    NormBackward part = a;
    part.d_gain = a.d_gain ? into : nullptr;
    part.d_bias = a.d_bias ? into + dim : nullptr;
    t.norm_backward(part, b, e);
  });
  for (size_t i = 0; i < dim; ++i) {
    if (a.d_gain) a.d_gain[i] += sums[i];
    if (a.d_bias) a.d_bias[i] += sums[dim + i];
  }
}

void head_norm_forward(const HeadNorm& norm, ConstView x, View y, float* inverse) {
  const ElementwiseTable& t = table();
  parallel_for(y.rows, row_grain(y.cols),
               [&](int64_t b, int64_t e) { t.head_norm_forward(norm, x, y, inverse, b, e); });
}

void head_norm_backward(const HeadNorm& norm, ConstView x, const float* inverse, View d, float* d_query_gain,
                        float* d_key_gain) {
  const ElementwiseTable& t = table();
  const auto queries = static_cast<size_t>(norm.query_width), keys = static_cast<size_t>(norm.key_width);
  std::vector<float> sums(queries + keys, 0.0f);
  with_partial_sums(d.rows, d.cols, queries + keys, sums.data(), [&](int64_t b, int64_t e, float* into) {
    t.head_norm_backward(norm, x, inverse, d, d_query_gain ? into : nullptr, d_key_gain ? into + queries : nullptr, b,
                         e);
  });
  for (size_t i = 0; d_query_gain && i < queries; ++i) d_query_gain[i] += sums[i];
  for (size_t i = 0; d_key_gain && i < keys; ++i) d_key_gain[i] += sums[queries + i];
}

void swiglu_forward(ConstView gate_up, View y) {
  const ElementwiseTable& t = table();
  parallel_for(y.rows, row_grain(4 * y.cols), [&](int64_t b, int64_t e) { t.swiglu_forward(gate_up, y, b, e); });
}

void swiglu_backward(ConstView gate_up, ConstView dy, View d_gate_up) {
  const ElementwiseTable& t = table();
  parallel_for(dy.rows, row_grain(4 * dy.cols),
               [&](int64_t b, int64_t e) { t.swiglu_backward(gate_up, dy, d_gate_up, b, e); });
}

void gelu_forward(ConstView x, View y) {
  const ElementwiseTable& t = table();
  parallel_for(y.rows, row_grain(4 * y.cols), [&](int64_t b, int64_t e) { t.gelu_forward(x, y, b, e); });
}

void gelu_backward(ConstView x, ConstView dy, View dx) {
  const ElementwiseTable& t = table();
  parallel_for(dy.rows, row_grain(4 * dy.cols), [&](int64_t b, int64_t e) { t.gelu_backward(x, dy, dx, b, e); });
}

void gelu_erf_forward(ConstView x, View y) {
  const ElementwiseTable& t = table();
  parallel_for(y.rows, row_grain(4 * y.cols), [&](int64_t b, int64_t e) { t.gelu_erf_forward(x, y, b, e); });
}

void gelu_erf_backward(ConstView x, ConstView dy, View dx) {
  const ElementwiseTable& t = table();
  parallel_for(dy.rows, row_grain(4 * dy.cols), [&](int64_t b, int64_t e) { t.gelu_erf_backward(x, dy, dx, b, e); });
}

void dropout(View x, float rate, uint64_t seed) {
  const ElementwiseTable& t = table();
  parallel_for(x.rows, row_grain(x.cols), [&](int64_t b, int64_t e) { t.dropout(x, rate, seed, b, e); });
}

void rope(View x, int64_t heads, int64_t head_dim, std::span<const int32_t> positions, const float* cosines,
          const float* sines, float direction) {
  const ElementwiseTable& t = table();
  parallel_for(x.rows, row_grain(x.cols), [&](int64_t b, int64_t e) {
    t.rope(x, heads, head_dim, positions.data(), cosines, sines, direction, b, e);
  });
}

void cross_entropy(const CrossEntropy& a) {
  const ElementwiseTable& t = table();
  parallel_for(a.logits.rows, row_grain(4 * a.logits.cols), [&](int64_t b, int64_t e) { t.cross_entropy(a, b, e); });
}

void sum_logits(ConstView logits, int64_t tokens, const int32_t* targets, LogitSum* sums) {
  const ElementwiseTable& t = table();
  parallel_for(logits.rows, row_grain(3 * logits.cols),
               [&](int64_t b, int64_t e) { t.sum_logits(logits, tokens, targets, sums, b, e); });
}

void logit_gradient(const LogitGradient& a) {
  const ElementwiseTable& t = table();
  parallel_for(a.logits.rows, row_grain(2 * a.logits.cols), [&](int64_t b, int64_t e) { t.logit_gradient(a, b, e); });
}

void softcap(ConstView x, View y, float cap) {
  const ElementwiseTable& t = table();
  parallel_for(y.rows, row_grain(4 * y.cols), [&](int64_t b, int64_t e) { t.softcap(x, y, cap, b, e); });
}

void softcap_backward(ConstView y, View d, float cap) {
  const ElementwiseTable& t = table();
  parallel_for(d.rows, row_grain(d.cols), [&](int64_t b, int64_t e) { t.softcap_backward(y, d, cap, b, e); });
}

void gather_rows(const float* rows, int64_t dim, std::span<const int32_t> ids, View out) {
  const ElementwiseTable& t = table();
  parallel_for(out.rows, row_grain(dim), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const ConstView from{rows + ids[static_cast<size_t>(i)] * dim, DType::f32, 1, dim, dim};
      t.convert(from, rows_of(out, i, 1), 0, 1);
    }
  });
}

void scatter_add_rows(ConstView rows, std::span<const int32_t> ids, float* into, int64_t dim) {
  const ElementwiseTable& t = table();
  // Threads own columns, in units of a cache line: rows that repeat an id add up in order.
  const int64_t lines = (dim + 15) / 16;
  parallel_for(lines, row_grain(16 * rows.rows), [&](int64_t b, int64_t e) {
    t.scatter_add(rows, ids.data(), into, dim, b * 16, std::min(dim, e * 16));
  });
}

void adamw(const AdamW& a) {
  const ElementwiseTable& t = table();
  parallel_for((a.count + 15) / 16, 1024, [&](int64_t b, int64_t e) { t.adamw(a, b * 16, std::min(a.count, e * 16)); });
}

namespace {

// For each byte of a mask, what its 8 numbers' bits are and-ed with: no branch that a random mask would mislead.
constexpr auto kept_lanes = [] {
  std::array<std::array<uint32_t, 8>, 256> lanes{};
  for (uint32_t byte = 0; byte < 256; ++byte)
    for (uint32_t i = 0; i < 8; ++i) lanes[byte][i] = byte >> i & 1 ? ~0u : 0u;
  return lanes;
}();

}  // namespace

void apply_mask(View x, const uint8_t* mask) {
  const int64_t stride = bit_row_bytes(x.cols);
  parallel_for(x.rows, row_grain(x.cols), [&](int64_t b, int64_t e) {
    for (int64_t r = b; r < e; ++r) {
      const uint8_t* bits = mask + r * stride;
      float* row = x.row<float>(r);
      int64_t c = 0;
      for (; c + 8 <= x.cols; c += 8) {
        const std::array<uint32_t, 8>& lanes = kept_lanes[bits[c / 8]];
        uint32_t numbers[8];
        std::memcpy(numbers, row + c, sizeof numbers);
        for (size_t i = 0; i < 8; ++i) numbers[i] &= lanes[i];
        std::memcpy(row + c, numbers, sizeof numbers);
      }
      for (; c < x.cols; ++c)
        if (!bit_at(bits, c)) row[c] = 0;
    }
  });
}

int64_t panel_elements(int64_t n, int64_t k) {
  return panels_of(n) * panel_rows * padded_columns(k);
}

void pack_panels(ConstView w, bool transposed, bf16* panels) {
  const ElementwiseTable& t = table();
  const int64_t n = transposed ? w.cols : w.rows;
  parallel_for(panels_of(n), 1, [&](int64_t b, int64_t e) { t.pack_panels(w, transposed, panels, b, e); });
}

void unpack_panels(const bf16* panels, View w) {
  const int64_t padded = padded_columns(w.cols);
  parallel_for(w.rows, panel_rows, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const bf16* from = panels + r / panel_rows * panel_rows * padded + r % panel_rows * 2;
      float* to = w.row<float>(r);
      for (int64_t c = 0; c < w.cols; ++c) to[c] = to_float(from[c / 2 * 2 * panel_rows + (c & 1)]);
    }
  });
}

}  // namespace hone::kernels
