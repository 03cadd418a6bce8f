#include "compress/preparation.h"

#include "base/rows.h"

namespace hone {

// Each in a file of its own.
Preparation awq_preparation();
Preparation smooth_preparation();

std::span<const Preparation> preparations() {
  static const Preparation rows[] = {awq_preparation(), smooth_preparation()};
  return rows;
}

const Preparation& preparation(std::string_view name) {
  return row_called(preparations(), name, "preparation");
}

}  // namespace hone
