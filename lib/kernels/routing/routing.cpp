#include "kernels/routing/routing.h"

#include <cmath>
#include <cstring>
#include <numbers>

#include "base/random.h"
#include "kernels/isa/routing/table.h"
#include "kernels/parallel.h"
#include "kernels/select.h"

namespace hone::kernels {
namespace {

RoutingTable table() {
  return HONE_TABLE_IN_USE(routing_table);
}

}  // namespace

void router_logits(ConstView x, ConstView weight, View logits) {
  const RoutingTable t = table();
  parallel_for(x.rows, row_grain(x.cols * weight.rows),
               [&](int64_t b, int64_t e) { t.logits(x, weight, logits, b, e); });
}

void router_dx(ConstView d_logits, ConstView weight, View dx) {
  const RoutingTable t = table();
  parallel_for(dx.rows, row_grain(dx.cols * weight.rows),
               [&](int64_t b, int64_t e) { t.dx(d_logits, weight, dx, b, e); });
}

void router_dw(ConstView d_logits, ConstView x, View dw) {
  const RoutingTable t = table();
  // Threads own columns, in units of a cache line: the sums over rows are in order.
  const int64_t lines = (dw.cols + 15) / 16;
  parallel_for(lines, row_grain(16 * dw.rows * x.rows),
               [&](int64_t b, int64_t e) { t.dw(d_logits, x, dw, b * 16, e * 16 < dw.cols ? e * 16 : dw.cols); });
}

void route_forward(const RouteForward& a) {
  const RoutingTable t = table();
  parallel_for(a.logits.rows, row_grain(8 * a.logits.cols * (a.top_k + 1)),
               [&](int64_t b, int64_t e) { t.route_forward(a, b, e); });
}

void route_backward(const RouteBackward& a) {
  const RoutingTable t = table();
  parallel_for(a.d_logits.rows, row_grain(8 * a.d_logits.cols),
               [&](int64_t b, int64_t e) { t.route_backward(a, b, e); });
}

void router_z_forward(ConstView logits, float* squares) {
  const RoutingTable t = table();
  parallel_for(logits.rows, row_grain(8 * logits.cols),
               [&](int64_t b, int64_t e) { t.z_forward(logits, squares, b, e); });
}

void router_z_backward(ConstView logits, float factor, View d_logits) {
  const RoutingTable t = table();
  parallel_for(logits.rows, row_grain(16 * logits.cols),
               [&](int64_t b, int64_t e) { t.z_backward(logits, factor, d_logits, b, e); });
}

namespace {

// In (0, 1).
double uniform(uint64_t seed, uint64_t index) {
  return (static_cast<double>(mix64(seed ^ mix64(index)) >> 11) + 0.5) * 0x1p-53;
}

double draw(RouterNoise noise, uint64_t seed, uint64_t index) {
  const double u = uniform(seed, 2 * index);
  if (noise == RouterNoise::gumbel) return -std::log(-std::log(u));
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * uniform(seed, 2 * index + 1));
}

}  // namespace

void add_router_noise(View logits, RouterNoise noise, float temperature, uint64_t seed) {
  if (noise == RouterNoise::none) return;
  parallel_for(logits.rows, row_grain(64 * logits.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t e = 0; e < logits.cols; ++e) {
        float& z = logits.row<float>(r)[e];
        const float drawn = static_cast<float>(draw(noise, seed, static_cast<uint64_t>(r * logits.cols + e)));
        z = noise == RouterNoise::gumbel ? (z + drawn) / temperature : z + temperature * drawn;
      }
  });
}

int64_t sort_slots(const int32_t* chosen, int64_t rows, int64_t top_k, int64_t experts, int64_t capacity,
                   int64_t* counts, int64_t* offsets, int32_t* places, int32_t* sources) {
  const int64_t slots = rows * top_k;
  for (int64_t e = 0; e < experts; ++e) counts[e] = 0;
  for (int64_t s = 0; s < slots; ++s) ++counts[chosen[s]];
  offsets[0] = 0;
  for (int64_t e = 0; e < experts; ++e) offsets[e + 1] = offsets[e] + std::min(counts[e], capacity);
  // counts serves as the cursor of each expert, and ends as it was: every slot passes once.
  for (int64_t e = 0; e < experts; ++e) counts[e] = 0;
  for (int64_t s = 0; s < slots; ++s) {
    const int64_t e = chosen[s], place = offsets[e] + counts[e]++;
    places[s] = place < offsets[e + 1] ? static_cast<int32_t>(place) : -1;
    if (places[s] >= 0) sources[place] = static_cast<int32_t>(s / top_k);
  }
  return offsets[experts];
}

void gather_slots(ConstView from, const int32_t* sources, View to) {
  const size_t bytes = static_cast<size_t>(to.cols) * size_of(to.dtype);
  with_float_type(to.dtype, [&]<class T>(T*) {
    parallel_for(to.rows, row_grain(to.cols), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) std::memcpy(to.row<T>(i), from.row<T>(sources[i]), bytes);
    });
  });
}

void combine_slots(ConstView slots, const float* gates, const int32_t* places, int64_t top_k, bool add, View y) {
  const RoutingTable t = table();
  parallel_for(y.rows, row_grain(y.cols * top_k),
               [&](int64_t b, int64_t e) { t.combine(slots, gates, places, top_k, add, y, b, e); });
}

void combine_slots_backward(ConstView dy, ConstView slots, const float* gates, const int32_t* places, int64_t top_k,
                            View d_slots, float* d_gates) {
  const RoutingTable t = table();
  parallel_for(dy.rows, row_grain(dy.cols * top_k), [&](int64_t b, int64_t e) {
    t.combine_backward(dy, slots, gates, places, top_k, d_slots, d_gates, b, e);
  });
}

}  // namespace hone::kernels
