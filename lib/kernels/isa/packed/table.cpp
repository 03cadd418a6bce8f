#include <utility>

#include "kernels/isa/packed/functions.h"
#include "kernels/isa/set_functions.h"

namespace hone::kernels::HONE_ISA {
namespace {

template <size_t... I>
void set_elements(PackedTable& table, std::index_sequence<I...>) {
  (set_element<all_elements[I]>(table), ...);
}

}  // namespace

void set_functions(PackedTable& table) {
  set_activations(table);
  set_elements(table, std::make_index_sequence<element_count>());
}

}  // namespace hone::kernels::HONE_ISA
