// The tile unit's products, in the set that a processor with AMX runs; the other sets have none.
#include "kernels/isa/function.h"
#include "kernels/isa/tiles/product.h"
#include "kernels/isa/tiles/tmm.h"
#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {

#if defined(HONE_ISA_avx512_bf16)
namespace {

void configure(int64_t depth) {
  Tmm unit;
  tiles::configure(unit, depth);
}

void product(const PanelProduct& p) {
  Tmm unit;
  tiles::product(unit, p);
}

void add_segment(const tiles::ByteSegment& s) {
  Tmm unit;
  tiles::add_segment(unit, s);
}

void turn(const uint32_t* panel, int64_t pairs, uint32_t* rows, int64_t row_words) {
  int64_t p = 0;
  for (; p + tiles::side <= pairs; p += tiles::side)
    for (int64_t r = 0; r < panel_rows; r += tiles::side)
      transpose16(panel + p * panel_rows + r, panel_rows, rows + r * row_words + p, row_words);
  for (; p < pairs; ++p)
    for (int64_t r = 0; r < panel_rows; ++r) rows[r * row_words + p] = panel[p * panel_rows + r];
}

}  // namespace
#endif

template <>
tiles::TileUnit functions_of<tiles::TileUnit>() {
#if defined(HONE_ISA_avx512_bf16)
  return {configure, Tmm::release, product, add_segment, turn};
#else
  return {};
#endif
}

}  // namespace hone::kernels::HONE_ISA
