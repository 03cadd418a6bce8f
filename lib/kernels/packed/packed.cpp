#include "kernels/packed/packed.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/gemm/gemm.h"
#include "kernels/packed/table.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"
#include "kernels/scratch.h"
#include "kernels/select.h"

namespace hone::kernels {
namespace {

PackedTable table() {
  return HONE_TABLE_IN_USE(packed_table);
}

// Apart, because a product that unpacks holds its panels while the products of the pieces run.
thread_local Scratch work_scratch, panel_scratch, converted_scratch, result_scratch, rounded_scratch;

std::atomic<F32Activations> f32_rows{F32Activations::exact};

bool in_f32(const PackedMatrix& w, ConstView x) {
  if (x.dtype != DType::f32) return false;
  return w.element == PackedElement::bf16 || f32_activations() == F32Activations::exact;
}

int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

int64_t segment_of(const PackedShape& s) {
  return s.group ? s.group : segment_columns;
}

PackedPanel panel_of(const PackedMatrix& w, int64_t p) {
  const PackedShape& s = w.shape;
  const bool bitmask = w.layout == PackedLayout::bitmask;
  PackedPanel panel{};
  const int64_t at = bitmask ? static_cast<int64_t>(w.offsets[p]) : p * s.panel_bytes;
  panel.values = static_cast<const uint8_t*>(w.values) + at;
  if (bitmask) panel.masks = static_cast<const uint8_t*>(w.masks) + p * s.steps * 4 * s.mask_bytes;
  panel.scales = w.scales + p * s.groups * panel_rows;
  panel.scale_step = s.group ? panel_rows : 0;
  panel.steps = s.steps;
  panel.segment_steps = segment_of(s) / s.lane;
  return panel;
}

// All that a product reads of a row of x, padding included.
int64_t padded_columns(const PackedShape& s) {
  return round_up(s.steps * s.lane, 16);
}

int64_t segments_of(const PackedShape& s) {
  return (padded_columns(s) + segment_of(s) - 1) / segment_of(s);
}

int64_t row_bytes_of(const PackedShape& s) {
  return padded_columns(s) * 4;
}

int64_t prepared_bytes(const PackedShape& s, int64_t rows) {
  return rows * (row_bytes_of(s) + segments_of(s) * 8) + padded_columns(s) * 4 + 64;
}

// A row of x as f32, padded with zeros.
const float* load_row(const PackedTable& t, ConstView x, int64_t i, int64_t padded, float* buffer) {
  if (x.dtype == DType::f32 && x.cols == padded) return x.row<float>(i);
  if (x.dtype == DType::f32) {
    std::copy_n(x.row<float>(i), x.cols, buffer);
  } else {
    t.widen(x.row<bf16>(i), x.cols, buffer);
  }
  std::fill(buffer + x.cols, buffer + padded, 0.0f);
  return buffer;
}

// A segment with a NaN or an infinity gets the scale NaN and so a result of NaNs; one of zeros (or next to nothing) the
// scale 0.
struct IntegerScale {
  float inverse;  // integers a unit; 0: all are 0
  float worth;    // of an integer
};

IntegerScale integer_scale(const PackedTable& t, const float* x, int64_t n) {
  const float largest = std::bit_cast<float>(t.largest(x, n));
  if (!(largest <= std::numeric_limits<float>::max())) return {0, std::numeric_limits<float>::quiet_NaN()};
  if (!(largest > 1e-30f)) return {0, 0};
  return {32512.0f / largest, largest / 32512.0f};
}

void quantize_row(const PackedTable& t, const PackedMatrix& w, const float* row, uint8_t* data, int32_t* starts,
                  float* scales) {
  const int64_t columns = padded_columns(w.shape), segment = segment_of(w.shape);
  const int32_t offset = w.element == PackedElement::int8 ? 128 : 8;
  for (int64_t c = 0; c < columns; c += segment, ++starts, ++scales) {
    const int64_t n = std::min(segment, columns - c);
    const IntegerScale scale = integer_scale(t, row + c, n);
    *scales = scale.worth;
    if (scale.inverse > 0) {
      *starts = -offset * t.quantize(row + c, n, scale.inverse, data + 2 * c);
    } else {
      std::memset(data + 2 * c, 0, static_cast<size_t>(2 * n));
      *starts = 0;
    }
  }
}

// Rows of activations in the form that the products take, laid out in one block of memory of prepared_bytes().
PackedInput prepare(const PackedTable& t, const PackedMatrix& w, ConstView x, uint8_t* memory) {
  const int64_t row_bytes = row_bytes_of(w.shape), segments = segments_of(w.shape), columns = padded_columns(w.shape);
  auto* starts = reinterpret_cast<int32_t*>(memory + x.rows * row_bytes);
  auto* scales = reinterpret_cast<float*>(starts + x.rows * segments);
  float* buffer = scales + x.rows * segments;
  const bool as_they_are = in_f32(w, x);
  for (int64_t i = 0; i < x.rows; ++i) {
    uint8_t* data = memory + i * row_bytes;
    const float* row = load_row(t, x, i, columns, as_they_are ? reinterpret_cast<float*>(data) : buffer);
    if (as_they_are) {
      if (row != reinterpret_cast<float*>(data)) std::memcpy(data, row, static_cast<size_t>(row_bytes));
    } else if (w.element == PackedElement::bf16) {
      t.round(row, columns, data);
    } else {
      quantize_row(t, w, row, data, starts + i * segments, scales + i * segments);
    }
  }
  return {x.rows, memory, row_bytes, starts, scales, segments};
}

// sums [rows of y][64] to columns [first, …) of y.
void store(const PackedTable& t, const float* sums, View y, int64_t first) {
  const int64_t n = std::min(panel_rows, y.cols - first);
  for (int64_t m = 0; m < y.rows; ++m, sums += panel_rows) {
    if (y.dtype == DType::f32) {
      std::copy_n(sums, n, y.row<float>(m) + first);
    } else {
      t.narrow(sums, n, y.row<bf16>(m) + first);
    }
  }
}

int64_t average_panel_bytes(const PackedMatrix& w) {
  if (w.layout == PackedLayout::panels) return w.shape.panel_bytes;
  return static_cast<int64_t>(w.offsets[w.shape.panels]) / w.shape.panels + w.shape.steps * 4 * w.shape.mask_bytes;
}

// The first lines of a panel start their way here while the activations are prepared.
void fetch_start(const PackedPanel& panel) {
  for (int64_t i = 0; i < 32; ++i) __builtin_prefetch(panel.values + i * 64);
  if (panel.masks)
    for (int64_t i = 0; i < 16; ++i) __builtin_prefetch(static_cast<const uint8_t*>(panel.masks) + i * 64);
}

// Few rows: every thread prepares all of x for itself, which costs less than waiting for another thread to have done
// so.
void multiply_panels(const PackedTable& t, const PackedProduct& one, int64_t begin, int64_t end) {
  const PackedMatrix& w = one.w;
  const int64_t rows = one.x.rows, result_bytes = rows * panel_rows * 4;
  const auto& products = in_f32(w, one.x) ? t.product_f32 : t.product;
  const auto product = products[static_cast<int>(w.layout)][static_cast<int>(w.element)];
  fetch_start(panel_of(w, begin));
  uint8_t* memory = work_scratch.array<uint8_t>(packed_scratch_bytes + result_bytes + prepared_bytes(w.shape, rows));
  auto* result = reinterpret_cast<float*>(memory + packed_scratch_bytes);
  const PackedInput prepared = prepare(t, w, one.x, memory + packed_scratch_bytes + result_bytes);
  for (int64_t p = begin; p < end; ++p) {
    product(panel_of(w, p), prepared, result, memory);
    store(t, result, one.y, p * panel_rows);
  }
}

void multiply_few(std::span<const PackedProduct> products) {
  const PackedTable t = table();
  int64_t panels = 0, bytes = 0;
  for (const PackedProduct& one : products) {
    panels += one.w.shape.panels;
    bytes += one.w.shape.panels * average_panel_bytes(one.w);
  }
  const int64_t grain = 1 + 32768 * panels / std::max<int64_t>(bytes, 1);
  parallel_for(panels, grain, [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // panel of the product, among those of all
    for (const PackedProduct& one : products) {
      const int64_t from = std::max(begin - first, int64_t{0}), to = std::min(end - first, one.w.shape.panels);
      if (from < to) multiply_panels(t, one, from, to);
      first += one.w.shape.panels;
    }
  });
}

void gemm_columns(ConstView x, ConstView w, View y) {
  gemm(x, false, w, false, y);
}

// f32 rows as few rows with 16-bit activations would see them.
ConstView rounded_to_integers(const PackedMatrix& w, ConstView x) {
  const PackedTable t = table();
  const int64_t columns = padded_columns(w.shape), segment = segment_of(w.shape), segments = segments_of(w.shape);
  float* out = rounded_scratch.array<float>(x.rows * columns);
  parallel_for(x.rows, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* to = out + i * columns;
      const float* row = load_row(t, x, i, columns, to);
      for (int64_t s = 0; s < segments; ++s) {
        const int64_t first = s * segment, n = std::min(segment, columns - first);
        const IntegerScale scale = integer_scale(t, row + first, n);
        for (int64_t c = first; c < first + n; ++c) to[c] = std::nearbyint(row[c] * scale.inverse) * scale.worth;
      }
    }
  });
  return {out, DType::f32, x.rows, x.cols, columns};
}

ConstView as_type(ConstView x, DType type) {
  if (x.dtype == type) return x;
  const auto bytes = x.rows * x.cols * static_cast<int64_t>(size_of(type));
  const View to{converted_scratch.array<uint8_t>(bytes), type, x.rows, x.cols, x.cols};
  convert(x, to);
  return to;
}

// y[m, n] = x W^T for W^T [cols, n] in f32.
void multiply_columns(ConstView w, ConstView x, View y, const DenseProduct& dense) {
  if (y.dtype == DType::f32) return dense.columns(x, w, y);
  const View result = view(result_scratch.array<float>(y.rows * y.cols), y.rows, y.cols);
  dense.columns(x, w, result);
  convert(result, y);
}

// Unpacks up to 8 MB at a time, which then lies in the cache that the dense product reads from.
void multiply_unpacked(const PackedMatrix& w, ConstView x, View y, const DenseProduct& dense) {
  const PackedShape& s = w.shape;
  const int64_t panel_bytes = (dense.panels ? round_up(s.cols, 32) * 2 : s.cols * 4) * panel_rows;
  const int64_t count = std::clamp<int64_t>((int64_t{8} << 20) / panel_bytes, 1, s.panels);
  uint8_t* memory = panel_scratch.array<uint8_t>(count * panel_bytes);
  for (int64_t p = 0; p < s.panels; p += count) {
    const int64_t here = std::min(count, s.panels - p), first = p * panel_rows;
    const int64_t n = std::min(here * panel_rows, s.rows - first);
    const View part = columns_of(y, first, n);
    if (dense.panels) {
      auto* panels = reinterpret_cast<bf16*>(memory);
      packed_expand(w, p, here, panels);
      dense.panels(x, panels, n, s.cols, part);
    } else {
      const View columns = view(reinterpret_cast<float*>(memory), s.cols, n);
      packed_expand_columns(w, p, here, columns);
      multiply_columns(columns, x, part, dense);
    }
  }
}

}  // namespace

PackedShape packed_shape(PackedElement element, int64_t rows, int64_t cols, int64_t group) {
  PackedShape s{};
  const bool is_bf16 = element == PackedElement::bf16;
  s.rows = rows;
  s.cols = cols;
  s.group = group;
  s.panels = (rows + panel_rows - 1) / panel_rows;
  s.lane = is_bf16 ? 2 : 4;
  s.steps = round_up(cols, is_bf16 ? 32 : 4) / s.lane;
  s.groups = is_bf16 ? 0 : group ? (cols + group - 1) / group : 1;
  s.panel_bytes = s.steps * (element == PackedElement::int4 ? 128 : 256);
  s.mask_bytes = is_bf16 ? 4 : 8;
  return s;
}

DenseProduct default_dense_product(DType x) {
  if (x == DType::bf16 && fast_bf16()) return {gemm_panels, nullptr};
  return {nullptr, gemm_columns};
}

void set_f32_activations(F32Activations how) {
  f32_rows = how;
}

F32Activations f32_activations() {
  return f32_rows.load(std::memory_order_relaxed);
}

void packed_matmul(const PackedMatrix& w, ConstView x, View y) {
  packed_matmul(w, x, y, default_dense_product(x.dtype));
}

void packed_matmul(const PackedMatrix& w, ConstView x, View y, const DenseProduct& dense) {
  assert(x.cols == w.shape.cols && y.cols == w.shape.rows && x.rows == y.rows);
  if (x.rows == 0 || y.cols == 0) return;
  if (x.rows <= packed_direct_rows) {
    const PackedProduct one{w, x, y};
    return multiply_few({&one, 1});
  }
  if (x.dtype == DType::f32 && !in_f32(w, x)) x = rounded_to_integers(w, x);
  x = as_type(x, dense.panels ? DType::bf16 : DType::f32);
  if (w.layout == PackedLayout::panels && w.element == PackedElement::bf16 && dense.panels)
    return dense.panels(x, static_cast<const bf16*>(w.values), w.shape.rows, w.shape.cols, y);
  multiply_unpacked(w, x, y, dense);
}

void packed_matmul_each(std::span<const PackedProduct> products) {
  std::vector<PackedProduct> few;
  std::vector<PanelGemm> many;
  for (const PackedProduct& p : products) {
    const bool panels = p.w.layout == PackedLayout::panels && p.w.element == PackedElement::bf16;
    if (p.x.rows == 0 || p.y.cols == 0) continue;
    if (p.x.rows <= packed_direct_rows)
      few.push_back(p);
    else if (panels && p.x.dtype == DType::bf16 && fast_bf16())
      many.push_back({p.x, static_cast<const bf16*>(p.w.values), p.w.shape.rows, p.w.shape.cols, p.y});
    else
      packed_matmul(p.w, p.x, p.y);
  }
  if (!few.empty()) multiply_few(few);
  if (!many.empty()) gemm_panels(many);
}

void packed_expand(const PackedMatrix& w, int64_t begin, int64_t count, bf16* out) {
  const auto expand = table().expand[static_cast<int>(w.layout)][static_cast<int>(w.element)];
  const int64_t pairs = round_up(w.shape.cols, 32) / 2;
  parallel_for(count, 1, [&](int64_t from, int64_t to) {
    uint8_t* scratch = work_scratch.array<uint8_t>(packed_unpack_bytes);
    for (int64_t i = from; i < to; ++i) expand(panel_of(w, begin + i), pairs, out + i * pairs * 128, scratch);
  });
}

void packed_expand_columns(const PackedMatrix& w, int64_t begin, int64_t count, View out) {
  const auto expand = table().expand_f32[static_cast<int>(w.layout)][static_cast<int>(w.element)];
  assert(out.dtype == DType::f32 && out.rows == w.shape.cols);
  parallel_for(count, 1, [&](int64_t from, int64_t to) {
    uint8_t* scratch = work_scratch.array<uint8_t>(packed_scratch_bytes);
    for (int64_t i = from; i < to; ++i) {
      const int64_t rows = std::min(panel_rows, out.cols - i * panel_rows);
      expand(panel_of(w, begin + i), rows, w.shape.cols, out.row<float>(0) + i * panel_rows, out.stride, scratch);
    }
  });
}

}  // namespace hone::kernels
