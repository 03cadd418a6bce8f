// The tile unit of the processor (AMX), where it may be used: products of bf16 where oneDNN does not go first
// (kernels/gemm/gemm.cpp), and of packed integers with activations of 8 bits.
#pragma once

#include "kernels/tiles/unit.h"

namespace hone::kernels::tiles {

// The unit in use; null below the level amx, and where what it computes is not what the emulation does: that is
// compared once, with a warning.
const TileUnit* unit();

// Whether a unit computes what the emulation does, bit for bit: a product and a segment, each with whole and ragged
// tiles, of numbers of all sizes.
bool agrees_with_emulation(const TileUnit& unit);

// For tests: use this one, or with null none, until the end of the scope, at every level.
class UnitScope {
 public:
  explicit UnitScope(const TileUnit* unit);
  ~UnitScope();
  UnitScope(const UnitScope&) = delete;
  UnitScope& operator=(const UnitScope&) = delete;
};

// Tiles of the calling thread, configured while one lives. Does nothing without a unit.
class Region {
 public:
  Region(const TileUnit* unit, int64_t depth) : unit_(unit) {
    if (unit_) unit_->configure(depth);
  }
  ~Region() {
    if (unit_) unit_->release();
  }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

 private:
  const TileUnit* unit_;
};

}  // namespace hone::kernels::tiles
