#include "kernels/packed/activations.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/parallel.h"
#include "kernels/scratch.h"

namespace hone::kernels {
namespace {

thread_local Scratch rounded_scratch;

int64_t segments_of(const PackedShape& s) {
  return (padded_columns(s) + segment_of(s) - 1) / segment_of(s);
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

IntegerScale integer_scale(const PackedTable& t, const float* x, int64_t n, int bits) {
  const float largest = std::bit_cast<float>(t.largest(x, n)), most = bits == 8 ? 127.0f : 32512.0f;
  if (!(largest <= std::numeric_limits<float>::max())) return {0, std::numeric_limits<float>::quiet_NaN()};
  if (!(largest > 1e-30f)) return {0, 0};
  return {most / largest, largest / most};
}

// Row i of `in`, of which `row` is row `from`.
void quantize_row(const PackedTable& t, const PackedMatrix& w, const RowFormat& f, const float* row, int64_t from,
                  const PackedInput& in, int64_t i) {
  const int32_t offset = info_of(w.element).offset();
  const auto quantize = [&](int64_t c, int64_t n, float inverse, uint8_t* data) {
    if (f.bits != 8) return t.quantize(row + c, n, inverse, data);
    if (!f.rounding.seed) return t.quantize_8(row + c, n, inverse, data);
    return t.quantize_8_by_chance(row + c, n, inverse * 65536.0f, {*f.rounding.seed, static_cast<uint32_t>(from), c},
                                  data);
  };
  auto* data = const_cast<uint8_t*>(in.data) + i * f.row_bytes;
  auto* starts = const_cast<int32_t*>(in.starts) + i;
  auto* scales = const_cast<float*>(in.scales) + i;
  for (int64_t c = 0; c < f.columns; c += f.segment, data += in.segment_bytes, starts += in.rows, scales += in.rows) {
    const int64_t n = std::min(f.segment, f.columns - c);
    const IntegerScale scale = integer_scale(t, row + c, n, f.bits);
    *scales = scale.worth;
    if (scale.inverse > 0) {
      *starts = -offset * quantize(c, n, scale.inverse, data);
    } else {
      std::memset(data, 0, static_cast<size_t>(f.row_bytes));
      *starts = 0;
    }
  }
}

}  // namespace

PackedRows kind_of(const PackedMatrix& w, DType x) {
  if (takes_halves(w)) return x == DType::f32 ? PackedRows::exact : PackedRows::halves;
  return x == DType::f32 && w.rounding.f32 == F32Activations::exact ? PackedRows::exact : PackedRows::integers;
}

int64_t segment_of(const PackedShape& s) {
  return s.group ? s.group : segment_columns;
}

int64_t padded_columns(const PackedShape& s) {
  return round_up(s.steps * s.lane, 16);
}

RowFormat format_of(const PackedTable& t, const PackedProduct& product) {
  const PackedMatrix& w = product.w;
  const auto& eight = product.eight_bits;
  const PackedRows kind = eight ? PackedRows::integers : kind_of(w, product.x.dtype);
  const int64_t columns = padded_columns(w.shape), segment = segment_of(w.shape);
  if (kind != PackedRows::integers) return {kind, columns, columns, 1, columns * 4};
  const int bits = eight ? 8 : w.rounding.integer_bits();
  assert(bits == 8 || bits == 16);
  const int64_t row_bytes = std::min(segment, columns) / 4 * (bits == 8 ? t.step_8 : t.step_16);
  return {kind, columns, segment, segments_of(w.shape), row_bytes, bits, eight.value_or(Rounding())};
}

int64_t prepared_bytes(const RowFormat& f, int64_t rows) {
  return rows * f.segments * (f.row_bytes + 8) + 64;
}

PackedInput input_at(const RowFormat& f, int64_t rows, uint8_t* memory) {
  auto* starts = reinterpret_cast<int32_t*>(memory + rows * f.segments * f.row_bytes);
  auto* scales = reinterpret_cast<float*>(starts + rows * f.segments);
  return {rows, memory, f.row_bytes, rows * f.row_bytes, starts, scales};
}

void prepare_row(const PackedTable& t, const PackedMatrix& w, const RowFormat& f, ConstView x, int64_t from,
                 const PackedInput& in, int64_t i, float* buffer) {
  auto* data = const_cast<uint8_t*>(in.data) + i * f.row_bytes;
  const bool exact = f.kind == PackedRows::exact;
  const float* row = load_row(t, x, from, f.columns, exact ? reinterpret_cast<float*>(data) : buffer);
  if (exact) {
    if (row != reinterpret_cast<float*>(data)) std::memcpy(data, row, static_cast<size_t>(f.row_bytes));
  } else if (f.kind == PackedRows::halves) {
    t.round(row, f.columns, data);
  } else {
    quantize_row(t, w, f, row, from, in, i);
  }
}

ConstView rounded_to_integers(const PackedTable& t, const PackedMatrix& w, ConstView x) {
  const int64_t columns = padded_columns(w.shape), segment = segment_of(w.shape), segments = segments_of(w.shape);
  float* out = rounded_scratch.array<float>(x.rows * columns);
  parallel_for(x.rows, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* to = out + i * columns;
      const float* row = load_row(t, x, i, columns, to);
      for (int64_t s = 0; s < segments; ++s) {
        const int64_t first = s * segment, n = std::min(segment, columns - first);
        const IntegerScale scale = integer_scale(t, row + first, n, w.rounding.integer_bits());
        for (int64_t c = first; c < first + n; ++c) to[c] = std::nearbyint(row[c] * scale.inverse) * scale.worth;
      }
    }
  });
  return {out, DType::f32, x.rows, x.cols, columns};
}

}  // namespace hone::kernels
