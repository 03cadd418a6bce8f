#include "compress/methods/prune_method.h"

#include "base/rows.h"

namespace hone {

// Each in a file of its own.
PruneMethod magnitude_method();
PruneMethod wanda_method();
PruneMethod sparsegpt_method();
PruneMethod alps_method();

std::span<const PruneMethod> prune_methods() {
  static const PruneMethod methods[] = {magnitude_method(), wanda_method(), sparsegpt_method(), alps_method()};
  return methods;
}

const PruneMethod& prune_method(std::string_view name) {
  return row_called(prune_methods(), name, "pruning method");
}

}  // namespace hone
