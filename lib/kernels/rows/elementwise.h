// Loops over numbers: conversions, sums, norms, activations, rotary positions, cross-entropy, the optimizer.
//
// Rows are split over threads; "T" is f32 or bf16, the same for all arrays of one call that say T.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/view.h"

namespace hone::kernels {

void zero(void* data, size_t bytes);
void convert(ConstView from, View to);  // f32 <-> bf16, or a copy
void add(View into, ConstView from);    // into += from; each f32 or bf16
void scale(View into, float factor);    // f32
double sum_of_squares(ConstView x);     // f32; the same for every number of threads
bool all_finite(ConstView x);           // f32

void add_bias(View x, const float* bias);           // x[r, c] += bias[c]; T
void add_column_sums(ConstView x, float* sums);     // sums[c] += sum over r of x[r, c]; T
void add_column_squares(ConstView x, float* sums);  // sums[c] += sum over r of x[r, c]^2; T

// ---- norms ----

// RMSNorm (Zhang & Sennrich, arXiv 1910.07467) where `bias` is null and `center` false; LayerNorm (Ba et al.,
// 1607.06450) else. With a branch, first residual_out = residual + branch, in the pass that normalizes it.
struct NormForward {
  ConstView residual;  // [rows, dim] f32
  ConstView branch;    // [rows, dim] T; data null: none
  View residual_out;   // [rows, dim] f32; written only with a branch
  View y;              // [rows, dim] T
  const float* gain = nullptr;
  const float* bias = nullptr;  // may be null
  bool center = false;
  float epsilon = 1e-5f;
  float* mean = nullptr;     // [rows]; written where `center`; null: nobody asks
  float* inverse = nullptr;  // [rows]: 1 / standard deviation (or root mean square); the same
};
void norm_forward(const NormForward& a);

struct NormBackward {
  ConstView x;      // [rows, dim] f32: what was normalized
  ConstView dy;     // [rows, dim] T
  View d_residual;  // [rows, dim] f32: += the gradient through the norm
  View d_branch;    // [rows, dim] T: a copy of the final d_residual; data null: none
  const float* gain = nullptr;
  const float* mean = nullptr;
  const float* inverse = nullptr;
  bool center = false;
  float* d_gain = nullptr;  // [dim] +=; null: not wanted
  float* d_bias = nullptr;  // [dim] +=; null: not wanted
};
void norm_backward(const NormBackward& a);

// ---- activations: backward, the gradient may lie where the input does ----

// SwiGLU (Shazeer, arXiv 2002.05202): y = silu(gate) * up, gate_up [rows, 2*ffn] with the gates first; T.
void swiglu_forward(ConstView gate_up, View y);
void swiglu_backward(ConstView gate_up, ConstView dy, View d_gate_up);
// GELU in its tanh form (Hendrycks & Gimpel, arXiv 1606.08415); T.
void gelu_forward(ConstView x, View y);
void gelu_backward(ConstView x, ConstView dy, View dx);
// GELU itself, x times the normal distribution's integral up to x; its error function within 2e-7; T.
void gelu_erf_forward(ConstView x, View y);
void gelu_erf_backward(ConstView x, ConstView dy, View dx);

// x[r, c] *= keep ? 1 / (1 - rate) : 0, where keep is drawn from (seed, r * cols + c): the backward pass repeats it. T.
void dropout(View x, float rate, uint64_t seed);

// ---- rotary positions (Su et al., arXiv 2104.09864) ----

// Rotates `heads` consecutive heads of each row in place; pairs are (i, i + head_dim/2). cosines and sines are
// [positions, head_dim/2]; direction -1 undoes it. T.
void rope(View x, int64_t heads, int64_t head_dim, std::span<const int32_t> positions, const float* cosines,
          const float* sines, float direction);

// ---- cross-entropy ----

// For each row: loss = log Z - logits[target], in nats, with Z the sum of exp(logits) over the first `vocabulary`
// columns.
struct CrossEntropy {
  View logits;  // [rows, cols] T; replaced by the gradient below where gradient_scale is not 0
  int64_t vocabulary = 0;
  const int32_t* targets = nullptr;  // [rows]; a row whose target is below 0 is not scored: all of it is 0
  float* losses = nullptr;           // [rows]
  uint8_t* correct = nullptr;        // [rows]: 1 where the largest logit is the target's; the first of equals counts
  float* log_sums = nullptr;         // [rows]: log Z; null: not wanted
  float gradient_scale = 0;          // times the gradient by the logits of loss + z_weight (log Z)^2
  float z_weight = 0;
};
void cross_entropy(const CrossEntropy& a);

// y = cap tanh(x / cap), within 1e-6 cap; each [rows, cols] of one type T.
void softcap(ConstView x, View y, float cap);
// d *= dy/dx, from y.
void softcap_backward(ConstView y, View d, float cap);

// ---- embedding ----
void gather_rows(const float* table, int64_t dim, std::span<const int32_t> ids, View out);       // out T
void scatter_add_rows(ConstView rows, std::span<const int32_t> ids, float* table, int64_t dim);  // rows T

// ---- optimizer ----

// AdamW (Loshchilov & Hutter, arXiv 1711.05101) in one pass over value, gradient and moments.
struct AdamW {
  int64_t count = 0;
  float* value = nullptr;
  const float* grad = nullptr;
  float* m = nullptr;
  float* v = nullptr;
  // One bit an element in the order of Weight::mask(); null: none. Cleared elements stay 0.
  const uint8_t* mask = nullptr;
  int64_t mask_cols = 0;  // columns a mask row covers
  float grad_scale = 1;   // clipping
  float learning_rate = 0, beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f, weight_decay = 0;
  float correction1 = 1, correction2 = 1;  // 1 - beta^step
};
void adamw(const AdamW& a);

// Clears the elements whose bit in `mask` is 0; mask rows are padded to bytes.
void apply_mask(View x, const uint8_t* mask);  // f32; bits of x (kernels/bits.h): zeros where they are 0

// ---- weights for the dense product ----

// W [n, k] f32 as bf16 in panels of 64 outputs: [n/64][k/2][64][2], n padded to 64 and k to 32 with zeros (oneDNN's
// BA16a64b2a of the k x n matrix). `transposed` makes the panels of W^T instead: outputs are the columns of W.
int64_t panel_elements(int64_t n, int64_t k);  // bf16 elements of the result
void pack_panels(ConstView w, bool transposed, bf16* panels);
void unpack_panels(const bf16* panels, View w);  // back to rows, f32 [n, k]

}  // namespace hone::kernels
