#include "compress/preparation.h"

#include "base/error.h"

namespace hone {

// Each in a file of its own.
Preparation awq_preparation();

std::span<const Preparation> preparations() {
  static const Preparation rows[] = {awq_preparation()};
  return rows;
}

const Preparation& preparation(std::string_view name) {
  std::string known;
  for (const Preparation& row : preparations()) {
    if (row.name == name) return row;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  throw usage_error("unknown preparation '{}'; choose one of {}", name, known);
}

}  // namespace hone
