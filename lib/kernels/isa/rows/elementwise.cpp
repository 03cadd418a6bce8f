// Conversions, sums, activations, rotary positions, dropout, embedding, optimizer. Plain loops: the compiler vectorizes
// them for the set that this file is compiled for. Norms, cross-entropy and divergence are in files of their own.
#include "kernels/bits.h"
#include "kernels/isa/gemm/panels.h"
#include "kernels/isa/rows/elementwise_table.h"
#include "kernels/isa/rows/rows.h"
#include "kernels/isa/scalar_math.h"
#include "kernels/isa/set_functions.h"

namespace hone::kernels::HONE_ISA {
using namespace scalar;
namespace {

void convert(ConstView from, View to, int64_t begin, int64_t end) {
  with_float_type(from.dtype, [&]<class A>(A*) {
    with_float_type(to.dtype, [&]<class B>(B*) {
      for (int64_t r = begin; r < end; ++r) {
        const A* a = from.row<A>(r);
        B* b = to.row<B>(r);
#pragma omp simd
        for (int64_t c = 0; c < from.cols; ++c) store(b + c, load(a + c));
      }
    });
  });
}

void add(View into, ConstView from, int64_t begin, int64_t end) {
  with_float_type(into.dtype, [&]<class A>(A*) {
    with_float_type(from.dtype, [&]<class B>(B*) {
      for (int64_t r = begin; r < end; ++r) {
        A* a = into.row<A>(r);
        const B* b = from.row<B>(r);
#pragma omp simd
        for (int64_t c = 0; c < into.cols; ++c) store(a + c, load(a + c) + load(b + c));
      }
    });
  });
}

void add_bias(View x, const float* bias, int64_t begin, int64_t end) {
  with_float_type(x.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      T* row = x.row<T>(r);
#pragma omp simd
      for (int64_t c = 0; c < x.cols; ++c) store(row + c, load(row + c) + bias[c]);
    }
  });
}

void column_sums(ConstView x, float* sums, int64_t begin, int64_t end) {
  with_float_type(x.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      const T* row = x.row<T>(r);
#pragma omp simd
      for (int64_t c = 0; c < x.cols; ++c) sums[c] += load(row + c);
    }
  });
}

void column_squares(ConstView x, float* sums, int64_t begin, int64_t end) {
  with_float_type(x.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      const T* row = x.row<T>(r);
#pragma omp simd
      for (int64_t c = 0; c < x.cols; ++c) sums[c] += load(row + c) * load(row + c);
    }
  });
}

double sum_of_squares(const float* x, int64_t count) {
  double total = 0;
  for (int64_t i = 0; i < count; i += 4096) {
    const int64_t n = count - i < 4096 ? count - i : 4096;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; ++j) sum += x[i + j] * x[i + j];
    total += static_cast<double>(sum);
  }
  return total;
}

bool all_finite(const float* x, int64_t count) {
  // 0 * x is 0 for finite x and NaN otherwise; a sum of zeros stays 0.
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += 0.0f * x[i];
  return sum == 0.0f;
}

void swiglu_forward(ConstView gate_up, View y, int64_t begin, int64_t end) {
  const int64_t ffn = y.cols;
  with_float_type(y.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      const T* gate = gate_up.row<T>(r);
      const T* up = gate + ffn;
      T* out = y.row<T>(r);
#pragma omp simd
      for (int64_t c = 0; c < ffn; ++c) {
        const float g = load(gate + c);
        store(out + c, g * sigmoid(g) * load(up + c));
      }
    }
  });
}

void swiglu_backward(ConstView gate_up, ConstView dy, View d_gate_up, int64_t begin, int64_t end) {
  const int64_t ffn = dy.cols;
  with_float_type(dy.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      const T* gate = gate_up.row<T>(r);
      const T* up = gate + ffn;
      const T* d = dy.row<T>(r);
      T* d_gate = d_gate_up.row<T>(r);
      T* d_up = d_gate + ffn;
#pragma omp simd
      for (int64_t c = 0; c < ffn; ++c) {
        const float g = load(gate + c), u = load(up + c), s = sigmoid(g), dout = load(d + c);
        store(d_up + c, dout * g * s);
        store(d_gate + c, dout * u * s * (1.0f + g * (1.0f - s)));
      }
    }
  });
}

// An activation of one input: its value and its slope, of which the loops below are made.

struct Gelu {                                               // the tanh form
  static constexpr float a = 0.7978845608f, b = 0.044715f;  // a: sqrt(2 / pi)
  [[gnu::always_inline]] static float value(float v) { return 0.5f * v * (1.0f + tanh_fast(a * (v + b * v * v * v))); }
  // Times dy, so that the products keep their order.
  [[gnu::always_inline]] static float gradient(float v, float dy) {
    const float t = tanh_fast(a * (v + b * v * v * v));
    const float slope = a * (1.0f + 3.0f * b * v * v);
    return dy * 0.5f * (1.0f + t + v * (1.0f - t * t) * slope);
  }
};

// The normal distribution's integral up to x. Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26: the
// error function within 1.5e-7.
[[gnu::always_inline]] inline float normal_integral(float x, float density) {
  const float z = 0.7071067812f * __builtin_fabsf(x), t = 1.0f / (1.0f + 0.3275911f * z);
  const float tail =
      t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f)))) * density;
  return x < 0 ? 0.5f * tail : 1.0f - 0.5f * tail;
}

struct GeluErf {
  [[gnu::always_inline]] static float value(float v) { return v * normal_integral(v, exp_fast(-0.5f * v * v)); }
  [[gnu::always_inline]] static float gradient(float v, float dy) {
    constexpr float scale = 0.3989422804f;  // 1 / sqrt(2 pi)
    const float density = exp_fast(-0.5f * v * v);
    return dy * (normal_integral(v, density) + v * scale * density);
  }
};

template <class F>
void activate(ConstView x, View y, int64_t begin, int64_t end) {
  with_float_type(y.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      const T* in = x.row<T>(r);
      T* out = y.row<T>(r);
#pragma omp simd
      for (int64_t c = 0; c < y.cols; ++c) store(out + c, F::value(load(in + c)));
    }
  });
}

template <class F>
void activate_backward(ConstView x, ConstView dy, View dx, int64_t begin, int64_t end) {
  with_float_type(dy.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      const T* in = x.row<T>(r);
      const T* d = dy.row<T>(r);
      T* out = dx.row<T>(r);
#pragma omp simd
      for (int64_t c = 0; c < dy.cols; ++c) store(out + c, F::gradient(load(in + c), load(d + c)));
    }
  });
}

void softcap(ConstView x, View y, float cap, int64_t begin, int64_t end) {
  const float inverse = 1.0f / cap;
  with_float_type(y.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      const T* in = x.row<T>(r);
      T* out = y.row<T>(r);
#pragma omp simd
      for (int64_t c = 0; c < y.cols; ++c) store(out + c, cap * tanh_fast(load(in + c) * inverse));
    }
  });
}

void softcap_backward(ConstView y, View d, float cap, int64_t begin, int64_t end) {
  const float inverse = 1.0f / cap;
  with_float_type(d.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      const T* of = y.row<T>(r);
      T* out = d.row<T>(r);
#pragma omp simd
      for (int64_t c = 0; c < d.cols; ++c) {
        const float t = load(of + c) * inverse;
        store(out + c, load(out + c) * (1.0f - t * t));
      }
    }
  });
}

void dropout(View x, float rate, uint64_t seed, int64_t begin, int64_t end) {
  const uint32_t threshold = static_cast<uint32_t>(static_cast<double>(rate) * 4294967296.0);
  const float factor = 1.0f / (1.0f - rate);
  with_float_type(x.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      T* row = x.row<T>(r);
      const RowKey key = row_key(seed, static_cast<uint32_t>(r));
#pragma omp simd
      for (int64_t c = 0; c < x.cols; ++c)
        store(row + c, hash(key, static_cast<uint32_t>(c)) < threshold ? 0.0f : load(row + c) * factor);
    }
  });
}

void rope(View x, int64_t heads, int64_t head_dim, const int32_t* positions, const float* cosines, const float* sines,
          float direction, int64_t begin, int64_t end) {
  const int64_t half = head_dim / 2;
  with_float_type(x.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      const float* cosine = cosines + positions[r] * half;
      const float* sine = sines + positions[r] * half;
      for (int64_t h = 0; h < heads; ++h) {
        T* a = x.row<T>(r) + h * head_dim;
        T* b = a + half;
#pragma omp simd
        for (int64_t i = 0; i < half; ++i) {
          const float u = load(a + i), v = load(b + i), s = sine[i] * direction;
          store(a + i, u * cosine[i] - v * s);
          store(b + i, v * cosine[i] + u * s);
        }
      }
    }
  });
}

void scatter_add(ConstView rows, const int32_t* ids, float* table, int64_t dim, int64_t begin_col, int64_t end_col) {
  with_float_type(rows.dtype, [&]<class T>(T*) {
    for (int64_t r = 0; r < rows.rows; ++r) {
      const T* from = rows.row<T>(r);
      float* to = table + ids[r] * dim;
#pragma omp simd
      for (int64_t c = begin_col; c < end_col; ++c) to[c] += load(from + c);
    }
  });
}

template <bool masked>
void adamw_loop(const AdamW& a, int64_t begin, int64_t end) {
  const float rate = a.learning_rate / a.correction1;
  const float root = 1.0f / a.correction2;
  const float shrink = 1.0f - a.learning_rate * a.weight_decay;
  const int64_t stride = bit_row_bytes(a.mask_cols);
  float* value = a.value;
  float* m = a.m;
  float* v = a.v;
  const float* grad = a.grad;
  int64_t i = begin;
  while (i < end) {
    // One mask row at a time, so that the loop inside has no division.
    const int64_t row = masked ? i / a.mask_cols : 0;
    const int64_t start = masked ? row * a.mask_cols : 0;
    const int64_t stop = masked && start + a.mask_cols < end ? start + a.mask_cols : end;
    const uint8_t* bits = masked ? a.mask + row * stride : nullptr;
#pragma omp simd
    for (int64_t j = i; j < stop; ++j) {
      const float keep = masked ? static_cast<float>((bits[(j - start) >> 3] >> ((j - start) & 7)) & 1) : 1.0f;
      const float g = grad[j] * a.grad_scale * keep;
      m[j] = a.beta1 * m[j] + (1.0f - a.beta1) * g;
      v[j] = a.beta2 * v[j] + (1.0f - a.beta2) * g * g;
      value[j] = (value[j] * shrink - rate * m[j] / (__builtin_sqrtf(v[j] * root) + a.epsilon)) * keep;
    }
    i = stop;
  }
}

void adamw(const AdamW& a, int64_t begin, int64_t end) {
  if (a.mask)
    adamw_loop<true>(a, begin, end);
  else
    adamw_loop<false>(a, begin, end);
}

}  // namespace

void set_functions(ElementwiseTable& table) {
  table = {convert,
           add,
           add_bias,
           column_sums,
           column_squares,
           sum_of_squares,
           all_finite,
           norm_forward,
           norm_backward,
           head_norm_forward,
           head_norm_backward,
           swiglu_forward,
           swiglu_backward,
           activate<Gelu>,
           activate_backward<Gelu>,
           activate<GeluErf>,
           activate_backward<GeluErf>,
           dropout,
           rope,
           cross_entropy,
           sum_logits,
           logit_gradient,
           softcap,
           softcap_backward,
           divergence,
           divergence_from_top,
           divergence_sums,
           divergence_from_sums,
           scatter_add,
           adamw,
           pack_panels};
}

}  // namespace hone::kernels::HONE_ISA
