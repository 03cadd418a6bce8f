// Activations, dropout and rotary positions.
#pragma once

#include <span>

#include "autograd/autograd.h"

namespace hone::ops {

// Activations read their input last in the backward pass, and write its gradient over it: it must come straight from
// linear() or grouped_linear(), whose own steps do not read it.

// [rows, 2*ffn] with the gates first -> [rows, ffn] (arXiv 2002.05202).
Var swiglu(const Var& gate_up);
// tanh form (arXiv 1606.08415).
Var gelu(const Var& x);
// The exact form: x times the normal distribution's integral up to x.
Var gelu_erf(const Var& x);

// In place on the value of x, which no recorded step may need: x must come straight from linear() or embedding(). Where
// x has a shape alone (linear() with `unread`), so has what comes back.
Var dropout(const Var& x, float rate, uint64_t seed);

// Cosines and sines of position * frequency i, [positions, head_dim/2] each.
struct RopeTable {
  Tensor cosines, sines;
  int64_t positions = 0;
  static RopeTable make(int64_t positions, std::span<const double> frequencies);  // radians a token, head_dim/2 of them
  static RopeTable make(int64_t positions, int64_t head_dim, double theta);       // theta^(-2i/head_dim)
};

// Rotates the first `heads` heads of each row, in place on the value of x (see dropout). positions has one entry a row.
Var rope(const Var& x, int64_t heads, int64_t head_dim, std::span<const int32_t> positions, const RopeTable& table);

}  // namespace hone::ops
