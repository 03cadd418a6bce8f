#include "nn/parameters.h"

#include <numeric>

#include "base/error.h"

namespace hone {

std::vector<int64_t> ParameterInfo::parts_of(int64_t rows) const {
  if (parts.empty()) return {rows};
  if (const int64_t sum = std::accumulate(parts.begin(), parts.end(), int64_t{0}); sum != rows)
    throw internal_error("'{}' has {} rows, and its parts {}", name, rows, sum);
  return parts;
}

}  // namespace hone
