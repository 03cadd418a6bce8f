// Rows of different origins put together: looked up, encoded, and tables added to them.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/autograd.h"

namespace hone::ops {

// Rows of a table that are added.
struct Lookup {
  Parameter* table;           // [n, dim]
  std::vector<int32_t> rows;  // which, for each place
};

// What is added at the rows `at` of the result.
struct Placed {
  Var rows;                 // [at.size(), dim] of f32 or bf16; may be empty
  std::vector<int32_t> at;  // each at most once
  std::vector<Lookup> plus = {};
};

// f32 [rows, dim]: the sum of all that is placed, in order. A row where nothing is placed is zero.
Var place(int64_t rows, int64_t dim, std::vector<Placed> parts);

}  // namespace hone::ops
