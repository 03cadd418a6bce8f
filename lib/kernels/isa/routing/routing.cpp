// Routing to experts. Plain loops: the compiler vectorizes those over columns for the set that this file is compiled
// for; those over experts are short.
#include "kernels/isa/routing/table.h"
#include "kernels/isa/scalar_math.h"
#include "kernels/isa/set_functions.h"

namespace hone::kernels::HONE_ISA {
using namespace scalar;
namespace {

void logits(ConstView x, ConstView weight, View logits, int64_t begin, int64_t end) {
  with_float_type(x.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      const T* row = x.row<T>(r);
      for (int64_t e = 0; e < weight.rows; ++e) {
        const float* w = weight.row<float>(e);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < x.cols; ++c) sum += load(row + c) * w[c];
        logits.row<float>(r)[e] = sum;
      }
    }
  });
}

void dx(ConstView d_logits, ConstView weight, View dx, int64_t begin, int64_t end) {
  constexpr int64_t block = 64;  // columns whose sums stay in registers
  with_float_type(dx.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < dx.cols; c += block) {
        const int64_t count = dx.cols - c < block ? dx.cols - c : block;
        float sums[block] = {};
        for (int64_t e = 0; e < weight.rows; ++e) {
          const float d = d_logits.row<float>(r)[e];
          const float* w = weight.row<float>(e) + c;
          if (d == 0.0f) continue;
#pragma omp simd
          for (int64_t i = 0; i < count; ++i) sums[i] += d * w[i];
        }
        T* to = dx.row<T>(r) + c;
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) store(to + i, sums[i]);
      }
  });
}

void dw(ConstView d_logits, ConstView x, View dw, int64_t begin, int64_t end) {
  with_float_type(x.dtype, [&]<class T>(T*) {
    for (int64_t r = 0; r < x.rows; ++r)
      for (int64_t e = 0; e < dw.rows; ++e) {
        const float d = d_logits.row<float>(r)[e];
        if (d == 0.0f) continue;
        const T* row = x.row<T>(r);
        float* to = dw.row<float>(e);
#pragma omp simd
        for (int64_t c = begin; c < end; ++c) to[c] += d * load(row + c);
      }
  });
}

struct Exponentials {
  float largest, sum;
};

// Calls f(i, exp(z[i] - the largest)) for `count` logits z[i] = at(i); returns the largest, and the sum of what f got.
template <class At, class F>
[[gnu::always_inline]] inline Exponentials exponentials(int64_t count, At&& at, F&& f) {
  Exponentials all{at(0), 0};
  for (int64_t i = 1; i < count; ++i) all.largest = at(i) > all.largest ? at(i) : all.largest;
  for (int64_t i = 0; i < count; ++i) {
    const float power = exp_fast(at(i) - all.largest);
    f(i, power);
    all.sum += power;
  }
  return all;
}

// Probabilities of a row.
void softmax(const float* z, int64_t count, float* p) {
  const Exponentials all = exponentials(
      count, [&](int64_t e) { return z[e]; }, [&](int64_t e, float power) { p[e] = power; });
  const float inverse = 1.0f / all.sum;
  for (int64_t e = 0; e < count; ++e) p[e] *= inverse;
}

// The gates from the chosen logits, not the scores: a bias may choose experts whose probabilities all underflow.
void softmax_gates(const float* z, const int32_t* chosen, int64_t k, float* gates) {
  const Exponentials all = exponentials(
      k, [&](int64_t j) { return z[chosen[j]]; }, [&](int64_t j, float power) { gates[j] = power; });
  for (int64_t j = 0; j < k; ++j) gates[j] /= all.sum;
}

float log_sum_exp(const float* z, int64_t count) {
  const Exponentials all = exponentials(
      count, [&](int64_t e) { return z[e]; }, [](int64_t, float) {});
  return all.largest + __builtin_logf(all.sum);
}

// The k experts of largest `preference`, bias included.
void choose(const float* preference, const float* bias, int64_t experts, int64_t k, int32_t* chosen) {
  for (int64_t j = 0; j < k; ++j) {
    int64_t best = -1;
    float highest = 0;
    for (int64_t e = 0; e < experts; ++e) {
      bool taken = false;
      for (int64_t i = 0; i < j; ++i) taken = taken || chosen[i] == e;
      const float value = bias ? preference[e] + bias[e] : preference[e];
      if (taken || (best >= 0 && !(value > highest))) continue;
      best = e;
      highest = value;
    }
    chosen[j] = static_cast<int32_t>(best);
  }
}

constexpr float least_sum = 1e-20f;  // of chosen sigmoids

void route_forward(const RouteForward& a, int64_t begin, int64_t end) {
  const int64_t experts = a.logits.cols, k = a.top_k;
  for (int64_t r = begin; r < end; ++r) {
    const float* z = a.logits.row<float>(r);
    float* scores = a.scores + r * experts;
    int32_t* chosen = a.chosen + r * k;
    float* gates = a.gates + r * k;
    if (a.kind == RouterKind::softmax)
      softmax(z, experts, scores);
    else
      for (int64_t e = 0; e < experts; ++e) scores[e] = sigmoid(z[e]);
    choose(a.kind == RouterKind::softmax ? z : scores, a.bias, experts, k, chosen);
    for (int64_t j = 0; j < k; ++j) gates[j] = scores[chosen[j]];
    if (k == 1 || !a.normalized_gates) continue;
    if (a.kind == RouterKind::softmax) {
      softmax_gates(z, chosen, k, gates);
      continue;
    }
    float sum = least_sum;
    for (int64_t j = 0; j < k; ++j) sum += gates[j];
    for (int64_t j = 0; j < k; ++j) gates[j] /= sum;
  }
}

// d_logits += what reaches them through the normalized scores, of which balance[e] is the gradient.
void add_balance(const float* scores, const float* balance, RouterKind kind, int64_t experts, float* d) {
  float sum = 0, mean = 0;
  for (int64_t e = 0; e < experts; ++e) sum += scores[e];
  const float inverse = kind == RouterKind::softmax ? 1.0f : 1.0f / (sum + least_sum);
  for (int64_t e = 0; e < experts; ++e) mean += balance[e] * scores[e] * inverse;
  for (int64_t e = 0; e < experts; ++e) {
    const float through = scores[e] * inverse * (balance[e] - mean);
    d[e] += kind == RouterKind::softmax ? through : through * (1.0f - scores[e]);
  }
}

void route_backward(const RouteBackward& a, int64_t begin, int64_t end) {
  const int64_t experts = a.d_logits.cols, k = a.top_k;
  const bool normalized = k > 1 && a.normalized_gates;
  for (int64_t r = begin; r < end; ++r) {
    const float* scores = a.scores + r * experts;
    const int32_t* chosen = a.chosen + r * k;
    const float *gates = a.gates + r * k, *d_gates = a.d_gates + r * k;
    float* d = a.d_logits.row<float>(r);
    for (int64_t e = 0; e < experts; ++e) d[e] = 0;
    if (!normalized && a.kind == RouterKind::softmax) {
      float flow = 0;
      for (int64_t j = 0; j < k; ++j) flow += d[chosen[j]] = d_gates[j] * gates[j];
      for (int64_t e = 0; e < experts; ++e) d[e] -= flow * scores[e];
    } else {
      float mean = 0;
      for (int64_t j = 0; j < k; ++j) mean += normalized ? gates[j] * d_gates[j] : 0.0f;
      for (int64_t j = 0; j < k; ++j) {
        // Of a softmax over the chosen g (dg - mean); of s / sum s times another s (1 - s) / s.
        const float slope = a.kind == RouterKind::softmax ? 1.0f : 1.0f - scores[chosen[j]];
        d[chosen[j]] = gates[j] * (d_gates[j] - mean) * slope;
      }
    }
    if (a.balance) add_balance(scores, a.balance, a.kind, experts, d);
  }
}

void z_forward(ConstView logits, float* squares, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float l = log_sum_exp(logits.row<float>(r), logits.cols);
    squares[r] = l * l;
  }
}

void z_backward(ConstView logits, float factor, View d_logits, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float* z = logits.row<float>(r);
    const float l = log_sum_exp(z, logits.cols);
    for (int64_t e = 0; e < logits.cols; ++e) d_logits.row<float>(r)[e] += factor * 2.0f * l * exp_fast(z[e] - l);
  }
}

void combine(ConstView slots, const float* gates, const int32_t* places, int64_t top_k, bool add, View y, int64_t begin,
             int64_t end) {
  constexpr int64_t block = 64;
  with_float_type(y.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < y.cols; c += block) {
        const int64_t count = y.cols - c < block ? y.cols - c : block;
        T* to = y.row<T>(r) + c;
        float sums[block] = {};
        if (add) {
#pragma omp simd
          for (int64_t i = 0; i < count; ++i) sums[i] = load(to + i);
        }
        for (int64_t j = r * top_k; j < (r + 1) * top_k; ++j) {
          if (places[j] < 0) continue;
          const float gate = gates ? gates[j] : 1.0f;
          const T* from = slots.row<T>(places[j]) + c;
#pragma omp simd
          for (int64_t i = 0; i < count; ++i) sums[i] += gate * load(from + i);
        }
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) store(to + i, sums[i]);
      }
  });
}

void combine_backward(ConstView dy, ConstView slots, const float* gates, const int32_t* places, int64_t top_k,
                      View d_slots, float* d_gates, int64_t begin, int64_t end) {
  with_float_type(dy.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t j = r * top_k; j < (r + 1) * top_k; ++j) {
        d_gates[j] = 0;
        if (places[j] < 0) continue;
        const T *d = dy.row<T>(r), *from = slots.row<T>(places[j]);
        T* to = d_slots.row<T>(places[j]);
        const float gate = gates[j];
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < dy.cols; ++c) {
          sum += load(d + c) * load(from + c);
          store(to + c, gate * load(d + c));
        }
        d_gates[j] = sum;
      }
  });
}

}  // namespace

void set_functions(RoutingTable& table) {
  table = {logits, dx, dw, route_forward, route_backward, z_forward, z_backward, combine, combine_backward};
}

}  // namespace hone::kernels::HONE_ISA
