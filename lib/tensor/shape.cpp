#include "tensor/shape.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"

namespace hone {

void Shape::push_back(int64_t dim) {
  if (count_ == most) throw internal_error("an array of more than {} dimensions", most);
  dims_[count_++] = dim;
}

void Shape::push_front(int64_t dim) {
  push_back(dim);
  std::rotate(begin(), end() - 1, end());
}

int64_t elements(const Shape& shape) {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

std::string to_string(const Shape& s) {
  return fmt::format("[{}]", fmt::join(s, ", "));
}

}  // namespace hone
