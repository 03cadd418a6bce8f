// The functions of kernels/routing/routing.h for one instruction set: each does rows [begin, end) on one thread.
#pragma once

#include "kernels/routing/routing.h"

namespace hone::kernels {

struct RoutingTable {
  void (*logits)(ConstView x, ConstView weight, View logits, int64_t begin, int64_t end);
  void (*dx)(ConstView d_logits, ConstView weight, View dx, int64_t begin, int64_t end);
  void (*dw)(ConstView d_logits, ConstView x, View dw, int64_t begin_col, int64_t end_col);
  void (*route_forward)(const RouteForward& a, int64_t begin, int64_t end);
  void (*route_backward)(const RouteBackward& a, int64_t begin, int64_t end);
  void (*z_forward)(ConstView logits, float* squares, int64_t begin, int64_t end);
  void (*z_backward)(ConstView logits, float factor, View d_logits, int64_t begin, int64_t end);
  void (*combine)(ConstView slots, const float* gates, const int32_t* places, int64_t top_k, bool add, View y,
                  int64_t begin, int64_t end);
  void (*combine_backward)(ConstView dy, ConstView slots, const float* gates, const int32_t* places, int64_t top_k,
                           View d_slots, float* d_gates, int64_t begin, int64_t end);
};

namespace portable {
RoutingTable routing_table();
}
namespace avx2 {
RoutingTable routing_table();
}
namespace avx512 {
RoutingTable routing_table();
}
namespace avx512_bf16 {
RoutingTable routing_table();
}

}  // namespace hone::kernels
