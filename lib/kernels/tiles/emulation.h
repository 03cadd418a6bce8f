// The tile instructions of AMX in plain C++, bit for bit as the manual of the processors has them (Intel 64 and IA-32
// Architectures Software Developer's Manual, volume 2: LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TILERELEASE,
// TDPBF16PS, TDPBSSD, TDPBSUD, TDPBUSD, TDPBUUD): what kernels of the tile unit are tested with on machines without it,
// and what the unit is compared with before it is used. Compiled for no instruction set: nothing here may be fused.
//
// Left out: loads that an interrupt broke off (a start row other than 0), which of several NaNs a sum becomes, and what
// only compilers see (STTILECFG, the hint of TILELOADDT1).
#pragma once

#include <array>
#include <cstdint>

#include "kernels/tiles/unit.h"

namespace hone::kernels::tiles {

// All throw Error(internal) where the processor would raise an exception.
class EmulatedTiles {
 public:
  static constexpr int count = 8;

  void load_config(const TileConfig& config);  // clears all tiles
  void release();

  // Rows of memory `stride` bytes apart; what the tile's shape leaves out becomes 0.
  void load(int tile, const void* from, int64_t stride);
  void store(int tile, void* to, int64_t stride) const;
  void zero(int tile);

  // c += a b in f32 of bf16 pairs. For each element of c, the products of even and those of odd columns are summed
  // apart, from 0 and in the order of the columns, multiplication and addition in one rounding; then both sums are
  // added, and that to c. To nearest even; numbers below the least normal one count as 0, as terms and as sums.
  void dot_halves(int c, int a, int b);
  // c += a b in 32 bits, which wrap, of four bytes.
  void dot_bytes(int c, int a, int b, bool a_is_signed, bool b_is_signed);

  // The same with numbers that are known, as kernels call them.
  template <int tile>
  void load(const void* from, int64_t stride) {
    load(tile, from, stride);
  }
  template <int tile>
  void store(void* to, int64_t stride) const {
    store(tile, to, stride);
  }
  template <int tile>
  void zero() {
    zero(tile);
  }
  template <int c, int a, int b>
  void dot_halves() {
    dot_halves(c, a, b);
  }
  template <int c, int a, int b>
  void dot_bytes() {
    dot_bytes(c, a, b, true, false);
  }

 private:
  struct Tile {
    int64_t rows = 0, words = 0;
    std::array<std::array<uint32_t, side>, side> data = {};
  };
  const Tile& at(int tile) const;
  Tile& at(int tile);
  void check_product(int c, int a, int b) const;

  bool configured_ = false;
  std::array<Tile, count> tiles_;
};

// Products over an emulated unit, one a thread.
const TileUnit& emulated_unit();

}  // namespace hone::kernels::tiles
