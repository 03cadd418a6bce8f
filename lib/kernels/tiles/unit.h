// The tile unit of AMX: what products ask of it. Plain structs only, as between all instruction sets. A tile is a
// register of up to 16 rows of 64 bytes; C[16][16] += A[16][depth] B[depth][16] is one instruction, where an element of
// A and of B is a 32-bit word: two bf16 or four bytes that are neighbours in the contraction. That is how panels lie in
// memory, so that tiles of weights are loaded as they are.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace hone::kernels {
struct PanelProduct;  // isa/gemm/table.h
}

namespace hone::kernels::tiles {

inline constexpr int64_t side = 16;  // rows of a tile, and words of its rows

// What LDTILECFG reads, palette 1: eight tiles. One that has no rows has no bytes either.
struct alignas(64) TileConfig {
  uint8_t palette = 0;    // 0: no tiles
  uint8_t start_row = 0;  // where an interrupted load goes on
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};  // of tiles 8 … 15, which palette 1 lacks: 0
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

// One segment of packed integers (kernels/packed/packed.h) and rows of x in 8 bits: y[rows][64] += (sum + start) *
// (scale of the weight's row * scale of the row of x), in one rounding.
struct ByteSegment {
  int64_t depth;          // words that configure() was told
  const uint8_t* tiles;   // [steps][64][4], integers with their offset
  int64_t steps;          // any number of them
  const uint8_t* x;       // [rows][steps][4] signed bytes
  int64_t row_bytes;      // to the next row of x
  int64_t rows;           //
  const int32_t* starts;  // [rows]
  const float* x_scales;  // [rows]
  const bf16* scales;     // [64]
  float* y;
};

// The words of a tile that fit segments of so many steps: fewer where all segments are short.
[[gnu::always_inline]] constexpr int64_t depth_for(int64_t segment_steps) {
  return segment_steps < side ? side / 2 : side;
}

struct TileUnit {
  // Tiles of `depth` words, 16 or 8, for the calling thread until it calls release(). Products of bf16 want 16.
  void (*configure)(int64_t depth) = nullptr;
  void (*release)() = nullptr;
  // As GemmTable::product, of rows (a_step 4).
  void (*product)(const PanelProduct& product) = nullptr;
  void (*add_segment)(const ByteSegment& segment) = nullptr;
  // A panel [pairs][64] of words as rows [64], `row_words` apart: its outputs as the rows of another product.
  void (*turn)(const uint32_t* panel, int64_t pairs, uint32_t* rows, int64_t row_words) = nullptr;
};

}  // namespace hone::kernels::tiles
