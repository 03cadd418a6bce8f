// Rows of x as the packed products take them: in f32, in bf16, or as integers with a scale a segment.
#pragma once

#include "base/integers.h"
#include "kernels/packed/packed.h"
#include "kernels/packed/table.h"

namespace hone::kernels {

// How rows of x meet a matrix.
enum class PackedRows : uint8_t {
  exact,    // in f32
  halves,   // as the bf16 products take them
  integers  // of RowFormat::bits
};

PackedRows kind_of(const PackedMatrix& w, DType x);

inline bool takes_halves(const PackedMatrix& w) {
  return info_of(w.element).arithmetic == Arithmetic::halves;
}
// Values are the panels that the dense product takes.
inline bool has_bf16_panels(const PackedMatrix& w) {
  return w.layout == PackedLayout::panels && info_of(w.element).is_bf16();
}

int64_t segment_of(const PackedShape& s);      // columns that share a scale of x
int64_t padded_columns(const PackedShape& s);  // all that a product reads of a row of x

// What a kind of rows has in memory. Integers: [segments][rows][bytes], exact ones and bf16 [rows][bytes].
struct RowFormat {
  PackedRows kind;
  int64_t columns, segment, segments;  // padded; of a segment; of a row
  int64_t row_bytes;                   // of a row of a segment, or of a whole one
  int bits = 16;                       // of integers: 16 or 8
  Rounding rounding = {};
};

RowFormat format_of(const PackedTable& t, const PackedProduct& product);
int64_t prepared_bytes(const RowFormat& f, int64_t rows);

// Where `rows` rows lie in a block of memory of prepared_bytes().
PackedInput input_at(const RowFormat& f, int64_t rows, uint8_t* memory);
// Row `from` of x as row i of `in`. `buffer` holds a row in f32.
void prepare_row(const PackedTable& t, const PackedMatrix& w, const RowFormat& f, ConstView x, int64_t from,
                 const PackedInput& in, int64_t i, float* buffer);

// f32 rows as few rows that become integers would see them; good until this thread's next call.
ConstView rounded_to_integers(const PackedTable& t, const PackedMatrix& w, ConstView x);

}  // namespace hone::kernels
