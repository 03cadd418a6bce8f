// Packed weights: matrices stored in fewer bytes, and multiplied without being unpacked to memory first.
//
// A packed matrix W [rows, cols] is a layout x an element.
//
// Elements (element.h has a row for each)
//   bf16       the number itself; k = 2 columns in a 32-bit lane
//   fp8        a number of 8 bits that bf16 has, too; value number * scale; k = 2
//   int8, ...  an integer q, stored as a code of 8, 4, 3 or 2 bits: q + 128, q + 8, …, or its place in a table; value
//              q * scale; k = 4 columns in a lane
//
// Order. Rows are cut in panels of 64, columns in steps of k: [rows/64][cols/k][64][k]. The 64 rows of a step are 4
// tiles of 16 rows x k columns, 64 bytes each before packing (8 a bit of a code): one vector register whose 32-bit lane
// i is what a dot-product instruction needs of row i. A thread reads its panels as one stream, and one broadcast of k
// activations meets 64 rows. Rows are padded to 64; columns to 4, of bf16 to 32 (the bytes are then oneDNN's
// BA16a64b2a, so that its product reads them as they are).
//
// Layouts
//   panels   every element. 4 bits: byte b of a 64-byte block holds element b of an even tile (low nibble) and of the
//            odd tile after it; 2 bits: element b of all four tiles, that of the first lowest. 3 bits: tile after tile,
//            a stream of bits.
//   bitmask  of each tile a mask, bit i = element i is kept (64 bits; with k = 2: 32), and the kept elements alone, in
//            the same order. Masks and values are separate arrays: the address of the next values then waits for a
//            population count and an addition, not for a load. Less than 8 bits: a stream of bits, the lowest of a byte
//            first, each tile starting a new byte. offsets[p] is the byte where the values of panel p start, so that
//            threads can start anywhere.
//
// Integers are stored with an offset so that they are the unsigned operand of the 8-bit dot instructions. What the
// offset adds, offset * sum(activations), is one number for all rows; an offset on the activations would need sums of
// the weights, which must be read.
//
// Precision. Rows of x in f32 are multiplied in f32: weights are used exactly, activations as they are, and only sums
// round; so for every number of rows (see F32Activations for the exception). Rows of x in bf16 go the fastest way: up
// to packed_direct_rows() of them through the dot instructions below, with exact weights; more through the dense bf16
// product, for which each weight is rounded once to bf16. Without bf16 instructions they are multiplied as f32 ones.
//
// Activations of fast products with integers are rounded to 16-bit integers, a = round(x * 32512 / max|x|) within each
// segment of a row of x (a group of columns, or 128 where scales are per row), split in two signed planes a = 256 hi +
// lo. An outlier so costs precision in its own segment only. Sums over a segment are exact in 32 bits: the same at
// every instruction set and for every number of rows. Where a matrix's ActivationRounding says 8 bits, a = round(x *
// 127 / max|x|), one plane: half the instructions, for any number of rows; 16 and more go through the tile unit where
// there is one (kernels/tiles/tiles.h), with the same bits.
//
// Many rows. A panel meets up to packed_pass_rows rows (table.h) at a time, segment by segment: the tiles of a segment
// are unpacked once, by the first block of rows on its way, and stay in the first cache for the others; where that
// costs a few shifts and masks, up to 16 rows unpack them again for each block, in registers. A block is as many rows
// as registers have sums for: 3 rows x 64 outputs x 2 planes are 24 sums of 16 lanes, 24 products for the 10 loads of a
// step; with AVX2 5 rows x 16 outputs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "kernels/packed/element.h"
#include "kernels/panel.h"
#include "kernels/view.h"

namespace hone::kernels {

enum class PackedLayout : uint8_t { panels, bitmask };

inline constexpr size_t layout_count = 2;

inline constexpr int64_t tile_rows = 16;     // of the four tiles of a panel
inline constexpr int64_t packed_slack = 64;  // bytes after the values of a bitmask that may be read, never used

struct PackedShape {
  int64_t rows, cols;
  int64_t group;        // columns that share a scale: 32, 64 or 128; 0: one scale a row. Of bf16: 0
  int64_t panels;       // of 64 rows
  int64_t lane;         // columns of a step: 2 or 4
  int64_t steps;        // of columns, padding included
  int64_t groups;       // scales a row: 1 for group 0; the last group may be short. Of bf16: 0
  int64_t panel_bytes;  // of values in the layout `panels`
  int64_t mask_bytes;   // of one tile's mask: 4 or 8

  int64_t tiles() const { return panels * steps * 4; }
};

PackedShape packed_shape(PackedElement element, int64_t rows, int64_t cols, int64_t group);

// How rows of x in f32 meet weights that are integers, for every number of rows.
enum class F32Activations : uint8_t {
  exact,    // as they are
  integers  // rounded to integers: few rows then take the integer dot instructions, several times as fast
};

// What activations become where they meet weights that are integers. It belongs to a matrix, so that models in one
// process may differ.
struct ActivationRounding {
  F32Activations f32 = F32Activations::exact;  // of rows in f32; rows in bf16 always become integers
  std::optional<int> bits = {};                // of the integers: 16 or 8; not said: 16
  int integer_bits() const { return bits.value_or(16); }
};

// Pointers to the arrays of one matrix; owns nothing.
struct PackedMatrix {
  PackedLayout layout;
  PackedElement element;
  PackedShape shape;
  const void* values = nullptr;       // panels: panels * panel_bytes; bitmask: offsets[panels] + packed_slack bytes
  const void* masks = nullptr;        // bitmask: [panels][steps][4] u64, or u32 with lane 2
  const uint64_t* offsets = nullptr;  // bitmask: [panels + 1]
  const bf16* scales = nullptr;       // of scaled elements: [panels][groups][64]
  ActivationRounding rounding = {};
};

// Products of unpacked weights that packed_matmul calls for many rows: y[m, n] = x[m, cols] W^T. Rows of x and y may
// have gaps between them.
struct DenseProduct {
  // x bf16, y f32 or bf16; W in bf16 panels: [n/64][cols/2][64][2], cols padded to 32 with zeros. Null: use
  // `f32_panels`.
  void (*panels)(ConstView x, const bf16* w, int64_t n, int64_t cols, View y) = nullptr;
  // All f32, W in panels [n/4][cols/8][4][8], padded: zeros where columns, anything where outputs are missing. They are
  // made where not any number of f32 rows goes straight: in portable code and on Arm.
  void (*f32_panels)(ConstView x, const float* w, View y) = nullptr;
};

// What is used where none is given: gemm_panels() for bf16 rows where bf16 products are fast, own::gemm_panels() in f32
// elsewhere (kernels/gemm/f32.h).
DenseProduct default_dense_product(DType x);

// Up to this many rows of x are multiplied straight from the packed bytes; more go through `dense`, for which the
// matrix is unpacked piece by piece. With AVX2 or AVX-512 any number in f32, and 32, 64 or any number where rows become
// integers: as many as it takes for `dense` to be faster.
inline constexpr int64_t packed_few_rows = 16;  // everywhere at least
int64_t packed_direct_rows(const PackedMatrix& w, DType x);

// Which side of packed_direct_rows() the products of this thread take while one lives, whatever their number of rows:
// with it, what comes out for a row depends on that row alone.
enum class RowsAs : uint8_t { counted, few, many };
class RowsScope {
 public:
  explicit RowsScope(RowsAs rows);
  ~RowsScope();
  RowsScope(const RowsScope&) = delete;
  RowsScope& operator=(const RowsScope&) = delete;

 private:
  RowsAs before_;
};
// Whether both sides give the same bits for rows of x here, so that nothing has to be taken as few or many: where any
// number of rows goes straight, and where bf16 weights meet bf16 rows in products of our own, which add in
// one order.
bool packed_sides_agree(const PackedMatrix& w, DType x);

// y[m, rows] = x[m, cols] W^T; x and y are f32 or bf16. The result for a row of x does not depend on the other rows, as
// long as m stays on one side of packed_direct_rows(); across it, results of f32 rows differ by the rounding of f32
// sums.
void packed_matmul(const PackedMatrix& w, ConstView x, View y);
void packed_matmul(const PackedMatrix& w, ConstView x, View y, const DenseProduct& dense);

// How numbers become integers.
struct Rounding {
  // Down or up with the chances that make the mean exact, drawn from (seed, row, column); none: to nearest.
  std::optional<uint64_t> seed = {};
};

// One product among several.
struct PackedProduct {
  PackedMatrix w;
  ConstView x;
  View y;
  // Given: x becomes integers of 8 bits by this, whatever its type and the matrix say; of an element that is integers.
  std::optional<Rounding> eight_bits = {};
};

// packed_matmul of each, bit for bit. Those of few rows run in one loop over the panels of all, and so do dense ones of
// our own: threads wait for each other once, not once a product.
void packed_matmul_each(std::span<const PackedProduct> products);

// One of them, of any number of rows. What comes out for a row depends on that row and, where it is rounded by chance,
// on its number.
void packed_matmul_8(const PackedMatrix& w, ConstView x, View y, const Rounding& rounding = {});

// out[i] = row ids[i] of W, f32 or bf16. Ids must be in [0, rows).
void packed_gather(const PackedMatrix& w, std::span<const int32_t> ids, View out);

// Unpacks panels [begin, begin + count) to bf16 panels (each value rounded once) at out: count * padded columns * 64
// elements, columns padded to 32.
void packed_expand(const PackedMatrix& w, int64_t begin, int64_t count, bf16* out);

// The same exactly, in the panels of f32 products (kernels/gemm/f32.h): out [count * 16][cols/8][4][8], zeros beyond
// the columns, anything beyond the rows. Below avx512; products use it in portable code and on Arm.
void packed_expand_f32(const PackedMatrix& w, int64_t begin, int64_t count, float* out);

// ---- making and checking (build.cpp) ----

// Bits of a matrix (kernels/bits.h) to tile masks, and back.
void packed_masks(const PackedShape& shape, const uint8_t* bits, void* masks);
void packed_mask_bits(const PackedShape& shape, const void* masks, uint8_t* bits);

// Fills offsets[panels + 1] from the masks. False if a mask keeps an element of the padding.
bool packed_offsets(PackedElement element, const PackedShape& shape, const void* masks, uint64_t* offsets);

// Fills w.values, whose other arrays are set, from row-major elements: codes of 16 bits, or int8_t integers q that have
// a code.
void packed_fill(const PackedMatrix& w, const void* elements_at, void* values);

// to[i] = the number of the element next to from[i], for elements without scales.
void nearest_numbers(PackedElement element, std::span<const float> from, std::span<float> to);
// What packed_fill() takes of such numbers.
void nearest_codes(PackedElement element, std::span<const float> from, void* to);

// Elements that the masks of a bitmask keep.
int64_t packed_kept(const PackedMatrix& w);

// Elements that are neither pruned nor zero.
int64_t packed_nonzeros(const PackedMatrix& w);

}  // namespace hone::kernels
