#include "kernels/packed/packed.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "base/cpu.h"
#include "kernels/gemm/f32.h"
#include "kernels/gemm/gemm.h"
#include "kernels/isa/kernel_set.h"
#include "kernels/packed/activations.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"
#include "kernels/scratch.h"
#include "kernels/tiles/tiles.h"

namespace hone::kernels {
namespace {

const PackedTable& table() {
  return kernel_set().packed;
}

const FormFunctions& functions_of(const PackedTable& t, const PackedMatrix& w) {
  return t.forms[static_cast<size_t>(w.layout)][static_cast<size_t>(w.element)];
}

// Apart, because a product that unpacks holds its panels while the products of the pieces run.
thread_local Scratch work_scratch, columns_scratch, panel_scratch, converted_scratch, result_scratch, shared_scratch;

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

// A product and the passes that its rows are cut into, all of the same form for its kernel.
struct Direct {
  const PackedProduct* product;
  RowFormat format;
  const tiles::TileUnit* unit;  // that multiplies it, or null
  int64_t passes, pass_rows;    // the last may have fewer
  uint8_t* prepared;            // rows of all passes, in blocks of prepared_bytes(pass_rows); null: not prepared yet

  Direct(const PackedTable& t, const PackedProduct& one) : product(&one), format(format_of(t, one)) {
    unit = fills_tiles(t) ? tiles::unit() : nullptr;
    const int64_t even = unit ? tiles::side : 6;  // rows, so that tiles or blocks of 2, 3 and 6 come out even
    passes = (one.x.rows + packed_pass_rows - 1) / packed_pass_rows;
    pass_rows = std::min(round_up((one.x.rows + passes - 1) / passes, even), packed_pass_rows);
    prepared = nullptr;
  }
  bool has_bytes() const { return format.kind == PackedRows::integers && format.bits == 8; }
  // Fewer rows than a tile has wait for their weights, whoever multiplies.
  bool fills_tiles(const PackedTable& t) const {
    return has_bytes() && product->x.rows >= tiles::side && functions_of(t, product->w).product_tiles;
  }
  int64_t items() const { return passes * product->w.shape.panels; }
  int64_t rows_in(int64_t pass) const { return std::min(pass_rows, product->x.rows - pass * pass_rows); }
  int64_t bytes() const { return passes * round_up(prepared_bytes(format, pass_rows), 64); }
  PackedInput input(int64_t pass, uint8_t* memory) const {
    return input_at(format, rows_in(pass), memory + pass * round_up(prepared_bytes(format, pass_rows), 64));
  }
  FormFunctions::Product kernel(const PackedTable& t) const {
    const FormFunctions& f = functions_of(t, product->w);
    if (format.kind == PackedRows::exact) return f.product_f32;
    return has_bytes() ? f.product_8 : f.product;
  }
};

// Up to so many rows every thread prepares all of them for itself, which costs less than to wait for another thread to
// have done so.
constexpr int64_t rows_for_itself = 16;

void prepare(const PackedTable& t, const Direct& d, uint8_t* memory, int64_t begin, int64_t end, float* buffer) {
  for (int64_t i = begin; i < end; ++i) {
    const int64_t pass = i / d.pass_rows;
    prepare_row(t, d.product->w, d.format, d.product->x, i, d.input(pass, memory), i % d.pass_rows, buffer);
  }
}

// Items [begin, end) of a product: panel after panel of a pass, pass after pass. `again`: right after other items of
// the same product in this thread, whose own preparation of the rows still lies there.
void multiply_items(const PackedTable& t, const Direct& d, int64_t begin, int64_t end, bool again) {
  const PackedProduct& one = *d.product;
  const int64_t panels = one.w.shape.panels, result_bytes = packed_pass_rows * panel_rows * 4;
  fetch_start(panel_of(one.w, begin % panels));
  const int64_t buffer_bytes = d.format.columns * 4, own_bytes = d.prepared ? 0 : d.bytes() + buffer_bytes;
  uint8_t* memory = work_scratch.array<uint8_t>(packed_scratch_bytes + result_bytes + own_bytes);
  auto* result = reinterpret_cast<float*>(memory + packed_scratch_bytes);
  uint8_t* prepared = d.prepared;
  if (!prepared) {
    prepared = memory + packed_scratch_bytes + result_bytes;
    if (!again) prepare(t, d, prepared, 0, one.x.rows, reinterpret_cast<float*>(prepared + d.bytes()));
  }
  const auto product = d.kernel(t);
  const auto product_tiles = functions_of(t, one.w).product_tiles;
  const tiles::Region region(d.unit, tiles::depth_for(segment_of(one.w.shape) / one.w.shape.lane));
  for (int64_t i = begin; i < end; ++i) {
    const int64_t pass = i / panels, p = i % panels;
    const PackedPanel panel = panel_of(one.w, p);
    const PackedInput input = d.input(pass, prepared);
    d.unit ? product_tiles(panel, input, result, memory, *d.unit) : product(panel, input, result, memory);
    store(t, result, rows_of(one.y, pass * d.pass_rows, d.rows_in(pass)), p * panel_rows);
  }
}

// Rows of the products that have many of them, prepared in one loop.
void prepare_shared(const PackedTable& t, std::span<Direct> products) {
  int64_t rows = 0, bytes = 0;
  for (const Direct& d : products)
    if (d.product->x.rows > rows_for_itself) rows += d.product->x.rows, bytes += round_up(d.bytes(), 64);
  if (rows == 0) return;
  uint8_t* memory = shared_scratch.array<uint8_t>(bytes);
  for (Direct& d : products)
    if (d.product->x.rows > rows_for_itself) {
      d.prepared = memory;
      memory += round_up(d.bytes(), 64);
    }
  parallel_for(rows, 4, [&](int64_t begin, int64_t end) {
    int64_t first = 0;
    for (const Direct& d : products) {
      if (!d.prepared) continue;
      const int64_t n = d.product->x.rows, from = std::max(begin - first, int64_t{0}), to = std::min(end - first, n);
      if (from < to) prepare(t, d, d.prepared, from, to, work_scratch.array<float>(d.format.columns));
      first += n;
    }
  });
}

// A thread's items of the products, counted one product after the other.
void multiply_pieces(const PackedTable& t, std::span<const Direct> products, Pieces& pieces) {
  const Direct* latest = nullptr;
  for (int64_t begin, end; pieces.take(begin, end);) {
    int64_t first = 0;
    for (const Direct& d : products) {
      const int64_t from = std::max(begin - first, int64_t{0}), to = std::min(end - first, d.items());
      first += d.items();
      if (from >= to) continue;
      multiply_items(t, d, from, to, latest == &d);
      latest = &d;
    }
  }
}

// What a thread takes at a time, about a panel: for the last one all others wait, at most some microseconds.
constexpr int64_t piece_bytes = 48 << 10;

// Straight from the packed bytes, all products in one loop.
void multiply_direct(std::span<const PackedProduct> list) {
  const PackedTable& t = table();
  thread_local std::vector<Direct> kept;  // a token of a small model comes here many times
  std::vector<Direct>& products = kept;   // of this thread, whoever computes
  products.clear();
  int64_t items = 0, work = 0, bytes = 0;
  for (const PackedProduct& one : list) {
    const Direct& d = products.emplace_back(t, one);
    items += d.items();
    work += d.items() * average_panel_bytes(one.w) / 2 * (1 + d.pass_rows / 8);
    bytes += d.items() * average_panel_bytes(one.w);
  }
  prepare_shared(t, products);
  const int64_t each = std::max<int64_t>(items, 1);
  parallel_pieces(items, row_grain(work / each), ceil_div(piece_bytes, bytes / each + 1),
                  [&](Pieces& pieces) { multiply_pieces(t, products, pieces); });
}

ConstView as_type(ConstView x, DType type) {
  if (x.dtype == type) return x;
  const auto bytes = x.rows * x.cols * static_cast<int64_t>(size_of(type));
  const View to{converted_scratch.array<uint8_t>(bytes), type, x.rows, x.cols, x.cols};
  convert(x, to);
  return to;
}

// y[m, n] = x W^T in f32, of n outputs that are expanded into memory.
void multiply_f32(const PackedMatrix& w, int64_t begin, int64_t count, ConstView x, float* memory, View y,
                  const DenseProduct& dense) {
  const View result = y.dtype == DType::f32 ? y : view(result_scratch.array<float>(y.rows * y.cols), y.rows, y.cols);
  packed_expand_f32(w, begin, count, memory);
  dense.f32_panels(x, memory, result);
  if (y.dtype != DType::f32) convert(result, y);
}

// Unpacks up to 8 MB at a time, which then lies in the cache that the dense product reads from.
void multiply_unpacked(const PackedMatrix& w, ConstView x, View y, const DenseProduct& dense) {
  const PackedShape& s = w.shape;
  const int64_t panel_bytes =
      (dense.panels ? round_up(s.cols, half_columns) * 2 : round_up(s.cols, own::panel_terms) * 4) * panel_rows;
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
      multiply_f32(w, p, here, x, reinterpret_cast<float*>(memory), part, dense);
    }
  }
}

}  // namespace

PackedShape packed_shape(PackedElement element, int64_t rows, int64_t cols, int64_t group) {
  PackedShape s{};
  const ElementInfo& info = info_of(element);
  s.rows = rows;
  s.cols = cols;
  s.group = group;
  s.panels = (rows + panel_rows - 1) / panel_rows;
  s.lane = info.lane();
  s.steps = round_up(cols, info.column_unit()) / s.lane;
  s.groups = !info.scaled ? 0 : group ? (cols + group - 1) / group : 1;
  s.panel_bytes = s.steps * panel_rows * s.lane * info.bits / 8;
  s.mask_bytes = tile_rows * s.lane / 8;
  return s;
}

DenseProduct default_dense_product(DType x) {
  if (x == DType::bf16 && fast_bf16()) return {.panels = gemm_panels};
  return {.f32_panels = own::gemm_panels};  // the same bits for a row whatever stands beside it
}

namespace {

thread_local RowsAs rows_as = RowsAs::counted;
constexpr int64_t any_rows = std::numeric_limits<int64_t>::max();

int64_t counted_direct_rows(const PackedMatrix& w, DType x);

}  // namespace

RowsScope::RowsScope(RowsAs rows) : before_(rows_as) {
  rows_as = rows;
}

RowsScope::~RowsScope() {
  rows_as = before_;
}

bool packed_sides_agree(const PackedMatrix& w, DType x) {
  if (counted_direct_rows(w, x) == any_rows) return true;
  return kind_of(w, x) == PackedRows::halves && !info_of(w.element).scaled && fast_bf16() && isa() != Isa::amx;
}

int64_t packed_direct_rows(const PackedMatrix& w, DType x) {
  if (rows_as == RowsAs::counted || packed_sides_agree(w, x)) return counted_direct_rows(w, x);
  return rows_as == RowsAs::few ? any_rows : 0;
}

namespace {

// 8-bit dot products of two planes cost what bf16 ones of the same columns do where both are as fast, and spare the
// unpacking: up to some 64 rows that is worth more than what the sums of each segment cost. Those in f32 cost what
// dense ones do, and spare it for any number of rows.
int64_t counted_direct_rows(const PackedMatrix& w, DType x) {
  constexpr int64_t beside_bf16 = 64, beside_tiles = 32;
  const PackedRows kind = kind_of(w, x);
  if (kind != PackedRows::integers) {
    const bool in_f32 = kind == PackedRows::exact || !fast_bf16();
    return table().fast_f32 && in_f32 ? any_rows : packed_few_rows;
  }
  if (w.rounding.integer_bits() == 8) return any_rows;
  if (!table().fast_integers) return packed_few_rows;
  if (x == DType::f32) return any_rows;
  if (isa() == Isa::amx) return beside_tiles;
  return slow_bf16_dots() || !fast_bf16() ? any_rows : beside_bf16;
}

}  // namespace

void packed_matmul(const PackedMatrix& w, ConstView x, View y) {
  packed_matmul(w, x, y, default_dense_product(x.dtype));
}

void packed_matmul(const PackedMatrix& w, ConstView x, View y, const DenseProduct& dense) {
  assert(x.cols == w.shape.cols && y.cols == w.shape.rows && x.rows == y.rows);
  if (x.rows == 0 || y.cols == 0) return;
  if (x.rows <= packed_direct_rows(w, x.dtype)) {
    const PackedProduct one{w, x, y};
    return multiply_direct({&one, 1});
  }
  assert(dense.panels || dense.f32_panels);
  if (kind_of(w, x.dtype) == PackedRows::integers && x.dtype == DType::f32) x = rounded_to_integers(table(), w, x);
  x = as_type(x, dense.panels ? DType::bf16 : DType::f32);
  if (has_bf16_panels(w) && dense.panels)
    return dense.panels(x, static_cast<const bf16*>(w.values), w.shape.rows, w.shape.cols, y);
  multiply_unpacked(w, x, y, dense);
}

void packed_matmul_each(std::span<const PackedProduct> products) {
  std::vector<PackedProduct> direct;
  std::vector<PanelGemm> many;
  for (const PackedProduct& p : products) {
    const bool panels = has_bf16_panels(p.w);
    if (p.x.rows == 0 || p.y.cols == 0) continue;
    if (p.eight_bits || p.x.rows <= packed_direct_rows(p.w, p.x.dtype))
      direct.push_back(p);
    else if (panels && p.x.dtype == DType::bf16 && fast_bf16())
      many.push_back({p.x, static_cast<const bf16*>(p.w.values), p.w.shape.rows, p.w.shape.cols, p.y});
    else
      packed_matmul(p.w, p.x, p.y);
  }
  if (!direct.empty()) multiply_direct(direct);
  if (!many.empty()) gemm_panels(many);
}

void packed_matmul_8(const PackedMatrix& w, ConstView x, View y, const Rounding& rounding) {
  assert(info_of(w.element).arithmetic == Arithmetic::integer);
  if (x.rows == 0 || y.cols == 0) return;
  const PackedProduct one{w, x, y, rounding};
  multiply_direct({&one, 1});
}

void packed_expand(const PackedMatrix& w, int64_t begin, int64_t count, bf16* out) {
  const auto expand = functions_of(table(), w).expand;
  const int64_t pairs = round_up(w.shape.cols, half_columns) / 2;
  parallel_for(count, 1, [&](int64_t from, int64_t to) {
    uint8_t* scratch = work_scratch.array<uint8_t>(packed_unpack_bytes);
    for (int64_t i = from; i < to; ++i) expand(panel_of(w, begin + i), pairs, out + i * pairs * 128, scratch);
  });
}

void packed_expand_f32(const PackedMatrix& w, int64_t begin, int64_t count, float* out) {
  const auto expand = functions_of(table(), w).expand_f32;
  constexpr int64_t width = own::column_outputs;
  static_assert(width == 16);
  const int64_t cols = w.shape.cols, padded = round_up(cols, own::panel_terms);
  parallel_for(count, 1, [&](int64_t from, int64_t to) {
    uint8_t* scratch = work_scratch.array<uint8_t>(packed_scratch_bytes);
    float* columns = columns_scratch.array<float>(panel_rows * padded);
    for (int64_t i = from; i < to; ++i) {
      const int64_t rows = std::min(panel_rows, w.shape.rows - (begin + i) * panel_rows);
      expand(panel_of(w, begin + i), rows, cols, columns, width * padded, width, scratch);
      for (int64_t part = 0; part < ceil_div(rows, width); ++part) {
        float* first = columns + part * width * padded;
        std::fill(first + cols * width, first + padded * width, 0.0f);
        own::turn_to_panels(first, cols, out + (i * panel_rows + part * width) * padded);
      }
    }
  });
}

}  // namespace hone::kernels
