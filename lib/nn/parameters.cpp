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

std::string ParameterInfo::name_of_expert(const std::string& other) const {
  const std::string own = fmt::format(".experts.{}.", expert);
  const size_t at = name.find(own);
  if (expert < 0 || at == name.npos) throw internal_error("'{}' is of no expert", name);
  return std::string(name).replace(at, own.size(), fmt::format(".experts.{}.", other));
}

Place Place::in_expert(int64_t number) const {
  Place place = in(fmt::format("experts.{}", number));
  place.expert = number;
  return place;
}

}  // namespace hone
