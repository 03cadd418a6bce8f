// Routing of rows to experts: the router's product, the choice of experts, the order of the rows by expert, and the
// weighted sum of what the experts make of them; forward and backward.
//
// "T" is f32 or bf16. A row's result does not depend on the other rows: a token is routed alike alone and in a batch.
#pragma once

#include <cstdint>

#include "kernels/view.h"

namespace hone::kernels {

// How logits become scores: probabilities over all experts (Shazeer et al., arXiv 1701.06538), or each by itself
// (DeepSeek-V3, arXiv 2412.19437, equation 15).
enum class RouterKind : uint8_t { softmax, sigmoid };

// logits[rows, experts] f32 = x[rows, dim] W^T for W [experts, dim] f32; x T. Sums are f32 whatever T is.
void router_logits(ConstView x, ConstView weight, View logits);
// dx[rows, dim] T = d_logits W.
void router_dx(ConstView d_logits, ConstView weight, View dx);
// dw[experts, dim] f32 += d_logits^T x.
void router_dw(ConstView d_logits, ConstView x, View dw);

// ---- choice ----

// The top_k experts of largest logit + bias (softmax) or score + bias (sigmoid); the first of equals wins. Softmax has
// its bias before the exponential because the scores of all but the first expert crowd at 0 when a router is sure:
// added there, the bias alone would pick the others, the same ones for every token. Gates are the scores of the chosen,
// divided by their sum where top_k > 1 and `normalized_gates`: for softmax that is the softmax over the chosen logits;
// with top_k 1 the gate is the score itself, since otherwise no gradient would reach the router (Fedus et al., arXiv
// 2101.03961, equation 2).
struct RouteForward {
  ConstView logits;  // [rows, experts] f32
  RouterKind kind = RouterKind::softmax;
  int64_t top_k = 1;
  const float* bias = nullptr;  // [experts] or null: affects the choice only (Wang et al., arXiv 2408.15664)
  float* scores = nullptr;      // [rows, experts]
  int32_t* chosen = nullptr;    // [rows, top_k], the largest first
  float* gates = nullptr;       // [rows, top_k]
  bool normalized_gates = true;
};
void route_forward(const RouteForward& a);

// d_logits from the gradient of the gates and, with `balance`, from a loss that is linear in the mean distribution over
// experts: the loss's derivative by the normalized score of expert e is balance[e] in every row.
struct RouteBackward {
  const float* scores = nullptr;
  const int32_t* chosen = nullptr;
  const float* gates = nullptr;
  const float* d_gates = nullptr;  // [rows, top_k]
  const float* balance = nullptr;  // [experts] or null
  RouterKind kind = RouterKind::softmax;
  int64_t top_k = 1;
  View d_logits;  // [rows, experts] f32; written
  bool normalized_gates = true;
};
void route_backward(const RouteBackward& a);

// squares[r] = (log sum exp of row r)^2: the router z-loss of a row (Zoph et al., arXiv 2202.08906, equation 5).
void router_z_forward(ConstView logits, float* squares);
// d_logits += factor * d(squares[r]) / d(logits).
void router_z_backward(ConstView logits, float factor, View d_logits);

// Noise before the choice, drawn from (seed, r * experts + e).
enum class RouterNoise : uint8_t {
  none,
  gaussian,  // z + temperature * N(0, 1) (noisy top-k, 1701.06538, equation 4, with one deviation for all)
  gumbel     // (z + G) / temperature, G standard Gumbel (Jang et al., arXiv 1611.01144)
};
void add_router_noise(View logits, RouterNoise noise, float temperature, uint64_t seed);

// ---- order ----

// A slot is one (row, choice) pair. Sorts the slots by expert, within an expert in the order of the rows, and leaves
// out what is beyond `capacity` slots of an expert. Returns the number of slots kept.
//   counts[experts]      slots that chose the expert, before any are left out
//   offsets[experts + 1] where each expert's slots begin
//   places[rows * top_k] position of each slot, -1 where it was left out
//   sources[…]           row of each position; room for rows * top_k
int64_t sort_slots(const int32_t* chosen, int64_t rows, int64_t top_k, int64_t experts, int64_t capacity,
                   int64_t* counts, int64_t* offsets, int32_t* places, int32_t* sources);

// ---- rows of experts ----

// to[i] = from[sources[i]]; T.
void gather_slots(ConstView from, const int32_t* sources, View to);

// y[r] = base + sum over j of gates[r, j] * slots[places[r, j]]; with `gates` null every gate is 1. base is what y
// holds where `add`, else 0. Slots left out add nothing. T.
void combine_slots(ConstView slots, const float* gates, const int32_t* places, int64_t top_k, bool add, View y);

// d_slots[places[r, j]] = gates[r, j] * dy[r]; d_gates[r, j] = dy[r] . slots[places[r, j]], 0 where left out. T.
void combine_slots_backward(ConstView dy, ConstView slots, const float* gates, const int32_t* places, int64_t top_k,
                            View d_slots, float* d_gates);

}  // namespace hone::kernels
