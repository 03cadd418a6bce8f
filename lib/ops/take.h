// Some rows of a batch, and their way back.
#pragma once

#include <cstdint>
#include <span>

#include "autograd/autograd.h"

namespace hone::ops {

// x [rows, dim] -> [taken, dim]: the rows that are named, each once.
Var take_rows(const Var& x, std::span<const int32_t> rows);

// x [taken, dim] -> [count, dim]: row i becomes row rows[i], times `scale`; the others are 0. The value of x is given
// back: it must come from an op that does not need it any more. Where x has a shape alone (linear() with `unread`), so
// has what comes back.
Var put_rows(const Var& x, std::span<const int32_t> rows, int64_t count, float scale);

}  // namespace hone::ops
