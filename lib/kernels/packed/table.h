// The functions that each instruction set has for packed weights. Plain structs only: shared by files compiled with
// different flags.
#pragma once

#include "kernels/packed/packed.h"
#include "kernels/tiles/unit.h"

namespace hone::kernels {

// One panel of 64 rows.
struct PackedPanel {
  const uint8_t* values;
  const void* masks;   // bitmask
  const bf16* scales;  // [groups][64]
  int64_t scale_step;  // 64, or 0 where every segment has the same scales
  int64_t steps;
  int64_t segment_steps;  // steps of one segment: the last may be shorter
};

// Rows of x, prepared by quantize() or round() below. The format of `data` belongs to the instruction set. The rows of
// a segment of integers lie together: a panel meets all of them in one segment before the next.
struct PackedInput {
  int64_t rows;
  const uint8_t* data;
  int64_t row_bytes;      // to the next row
  int64_t segment_bytes;  // to the next segment of a row; integers only
  const int32_t* starts;  // [segments][rows]: minus the sum of the integers times the offset of the weights
  const float* scales;    // [segments][rows]: what an integer is worth
};

// Rows of x that a product takes at most. Their results (64 outputs each), their activations and the tiles of a segment
// stay in the first cache together (16 + 16 + 8 KB), and a weight that is unpacked once meets all of them.
inline constexpr int64_t packed_pass_rows = 64;

inline constexpr int64_t segment_columns = 128;  // of a segment where scales are per row
// Of scratch: one segment of 64 rows x 128 bytes, and after it the same widened to f32.
inline constexpr int64_t packed_unpack_bytes = 8192;
inline constexpr int64_t packed_widened_bytes = 4 * packed_unpack_bytes;
inline constexpr int64_t packed_scratch_bytes = packed_unpack_bytes + packed_widened_bytes;

// The functions of one layout of one element.
struct FormFunctions {
  // y[rows][64] = products, of rows in bf16 or integers of 16 bits.
  using Product = void (*)(const PackedPanel& panel, const PackedInput& x, float* y, uint8_t* scratch);
  Product product;
  // The same of integers of 8 bits; null where the element is none.
  Product product_8;
  // The same with rows of x in f32 (4 bytes a column, n % 16 == 0 of them): nothing is rounded but sums.
  Product product_f32;
  // out [pairs][64][2] bf16, pairs of columns; zeros beyond panel.steps.
  void (*expand)(const PackedPanel& panel, int64_t pairs, bf16* out, uint8_t* scratch);
  // out[r / 16 * part + c * stride + r % 16] = the exact weight of column c < cols and row r < rows <= 64 of the panel.
  void (*expand_f32)(const PackedPanel& panel, int64_t rows, int64_t cols, float* out, int64_t part, int64_t stride,
                     uint8_t* scratch);
  // product_8 by a tile unit that is configured for these segments, with the same bits; null where product_8 is, and
  // where the set's activations of 8 bits are not bytes.
  void (*product_tiles)(const PackedPanel& panel, const PackedInput& x, float* y, uint8_t* scratch,
                        const tiles::TileUnit& unit) = nullptr;
};

// Where the elements of a row stand of which each is rounded by a draw of its own.
struct RowDraws {
  uint64_t seed;
  uint32_t row;
  int64_t column;  // of the first element, a multiple of 32
};

struct PackedTable {
  void (*widen)(const bf16* x, int64_t n, float* out);
  void (*narrow)(const float* x, int64_t n, bf16* out);  // as to_bf16() does
  // Largest |x| as the bits of a float; a NaN is larger than infinity. n % 16 == 0.
  uint32_t (*largest)(const float* x, int64_t n);
  // round(x * inverse) as integers of 16 bits, step_16 bytes a step; returns their sum. n % 16 == 0, |x * inverse| <=
  // 32512.
  int32_t (*quantize)(const float* x, int64_t n, float inverse, uint8_t* data);
  // The same as integers of 8 bits, step_8 bytes a step; |x * inverse| <= 127.
  int32_t (*quantize_8)(const float* x, int64_t n, float inverse, uint8_t* data);
  // The same of x * inverse / 65536, rounded down or up with the chances that make the mean exact.
  int32_t (*quantize_8_by_chance)(const float* x, int64_t n, float inverse, const RowDraws& draws, uint8_t* data);
  int64_t step_16, step_8;
  bool fast_integers;  // products of 16-bit integers are the fastest for any number of rows
  bool fast_f32;       // and so are those in f32
  // x into the form that bf16 products take (4 bytes a column at most). n % 16 == 0.
  void (*round)(const float* x, int64_t n, uint8_t* data);
  FormFunctions forms[layout_count][element_count];
};

}  // namespace hone::kernels
