// How an element's file, elements/NAME.cpp, puts its functions into the table: it says its sources and instantiates
// set_element(), which takes the products of the element's arithmetic with them.
#pragma once

#include "kernels/isa/packed/expand.h"
#include "kernels/isa/packed/f32.h"
#include "kernels/isa/packed/functions.h"
#include "kernels/isa/packed/integer.h"
#include "kernels/isa/packed/words.h"

namespace hone::kernels::HONE_ISA {

template <PackedElement element>
struct Sources;  // Panels and Bitmask: a source (source.h) for each layout

// Bits of codes that are the bytes of tiles and do not straddle bytes, in the layout `panels`; else 0.
template <PackedElement element>
inline constexpr int plain_bits = info_of(element).codes_are == Codes::offset && 8 % info_of(element).bits == 0
                                      ? info_of(element).bits
                                      : 0;

template <PackedElement element, class Source, int bits>
void set_form(FormFunctions& f) {
  constexpr ElementInfo info = info_of(element);
  if constexpr (info.arithmetic == Arithmetic::halves) {
    constexpr auto widen = info.scaled ? exact::widen_scaled_words : exact::widen_words;
    f = {words::product<Source, info.scaled>, nullptr, exact::product<Source, widen, info.lane()>,
         expansion::words<Source, info.scaled>, exact::expand<Source, widen, info.lane()>};
#if !defined(HONE_BF16_DOTS)  // the bf16 product of these sets takes f32 activations as they are
    f.product_f32 = f.product;
#endif
  } else {
    constexpr auto widen = exact::widen_integers<info.offset()>;
    f = {integers::product<2, Source, info.offset(), bits>, integers::product_8<Source, info.offset(), bits>(),
         exact::product<Source, widen, info.lane()>, expansion::integers<Source, info.offset()>,
         exact::expand<Source, widen, info.lane()>};
#if defined(__AVX512VNNI__)
    f.product_tiles = integers::product_tiles<Source>;
#endif
  }
}

template <PackedElement element>
void set_element(PackedTable& table) {
  auto& forms = table.forms;
  constexpr auto i = static_cast<size_t>(element);
  set_form<element, typename Sources<element>::Panels, plain_bits<element>>(
      forms[static_cast<size_t>(PackedLayout::panels)][i]);
  set_form<element, typename Sources<element>::Bitmask, 0>(forms[static_cast<size_t>(PackedLayout::bitmask)][i]);
}

}  // namespace hone::kernels::HONE_ISA
