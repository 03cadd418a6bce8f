// Norms of heads, kernels/rows/head_norm.h.
#include "kernels/isa/rows/rows.h"
#include "kernels/isa/scalar_math.h"

namespace hone::kernels::HONE_ISA {
using namespace scalar;

void head_norm_forward(const HeadNorm& norm, ConstView x, View y, float* inverses, int64_t begin, int64_t end) {
  with_float_type(y.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t h = 0; h < norm.normed(); ++h) {
        const int64_t n = norm.width(h), first = norm.first(h);
        const float inverse_n = 1.0f / static_cast<float>(n);
        const T* in = x.row<T>(r) + first;
        T* out = y.row<T>(r) + first;
        const float* gain = h < norm.heads ? norm.query_gain : norm.key_gain;
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (int64_t c = 0; c < n; ++c) squares += load(in + c) * load(in + c);
        const float inverse = 1.0f / __builtin_sqrtf(squares * inverse_n + norm.epsilon);
#pragma omp simd
        for (int64_t c = 0; c < n; ++c) store(out + c, load(in + c) * inverse * gain[c]);
        inverses[r * norm.normed() + h] = inverse;
      }
      for (int64_t c = norm.first(norm.normed()); c < x.cols; ++c) y.row<T>(r)[c] = x.row<T>(r)[c];
    }
  });
}

// With h = x * inverse and g = dy * gain: dx = inverse * (g - h * mean(g * h)).
void head_norm_backward(const HeadNorm& norm, ConstView x, const float* inverses, View d, float* d_query_gain,
                        float* d_key_gain, int64_t begin, int64_t end) {
  with_float_type(d.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t h = 0; h < norm.normed(); ++h) {
        const int64_t n = norm.width(h), first = norm.first(h);
        const float inverse_n = 1.0f / static_cast<float>(n);
        const T* in = x.row<T>(r) + first;
        T* dy = d.row<T>(r) + first;
        const float* gain = h < norm.heads ? norm.query_gain : norm.key_gain;
        float* d_gain = h < norm.heads ? d_query_gain : d_key_gain;
        const float inverse = inverses[r * norm.normed() + h];
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < n; ++c) sum += load(dy + c) * gain[c] * (load(in + c) * inverse);
        const float mean = sum * inverse_n;
        if (d_gain) {
#pragma omp simd
          for (int64_t c = 0; c < n; ++c) d_gain[c] += load(dy + c) * (load(in + c) * inverse);
        }
#pragma omp simd
        for (int64_t c = 0; c < n; ++c)
          store(dy + c, inverse * (load(dy + c) * gain[c] - load(in + c) * inverse * mean));
      }
  });
}

}  // namespace hone::kernels::HONE_ISA
