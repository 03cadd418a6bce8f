// Short convolutions, kernels/rows/short_conv.h. Channels lie beside each other, so that every loop over them is one of
// vectors; rows go by one after the other, and the latest of them stand in a ring, each row at its number modulo taps.
#include "kernels/isa/rows/short_conv.h"

#include "kernels/isa/function.h"
#include "kernels/isa/scalar_math.h"

namespace hone::kernels::HONE_ISA {
using namespace scalar;

namespace {

using Lanes = float[short_conv_lanes];

void take_kernel(const ShortConv& conv, int64_t begin, int64_t n, Lanes* kernel) {
  for (int64_t k = 0; k < conv.taps; ++k)
    for (int64_t c = 0; c < n; ++c) kernel[k][c] = conv.kernel[(begin + c) * conv.taps + k];
}

void clear(Lanes* ring, int64_t taps) {
  for (int64_t k = 0; k < taps; ++k)
    for (int64_t c = 0; c < short_conv_lanes; ++c) ring[k][c] = 0;
}

template <class T>
[[gnu::always_inline]] inline void multiply(const T* a, const T* b, int64_t n, float* to) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) to[c] = load(a + c) * load(b + c);
}

// sum = kernel[0] ring[at] + kernel[1] ring[at + step] + …, step 1 or -1, around the ring.
[[gnu::always_inline]] inline void convolve(const Lanes* kernel, const Lanes* ring, int64_t taps, int64_t at,
                                            int64_t step, int64_t n, float* sum) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) sum[c] = kernel[0][c] * ring[at][c];
  for (int64_t k = 1; k < taps; ++k) {
    const float* then = ring[(at + step * k + taps) % taps];
#pragma omp simd
    for (int64_t c = 0; c < n; ++c) sum[c] += kernel[k][c] * then[c];
  }
}

void forward(const ShortConv& conv, ConstView in, const ShortConvSpan* spans, int64_t count, View out, float* gated,
             int64_t begin, int64_t end) {
  const int64_t n = end - begin, taps = conv.taps, width = conv.width;
  Lanes kernel[ShortConv::most_taps], past[ShortConv::most_taps], sum;
  take_kernel(conv, begin, n, kernel);
  with_float_type(out.dtype, [&]<class T>(T*) {
    for (int64_t s = 0; s < count; ++s) {
      const ShortConvSpan& span = spans[s];
      clear(past, taps);
      for (int64_t k = 0; span.before && k < taps - 1; ++k)  // row k - (taps - 1) of the span
        for (int64_t c = 0; c < n; ++c) past[k + 1][c] = span.before[k * width + begin + c];
      for (int64_t t = 0; t < span.rows; ++t) {
        const int64_t r = span.first_row + t;
        const T* row = in.row<T>(r) + begin;
        float* now = past[t % taps];
        multiply(row, row + 2 * width, n, now);
        convolve(kernel, past, taps, t % taps, -1, n, sum);
        T* y = out.row<T>(r) + begin;
#pragma omp simd
        for (int64_t c = 0; c < n; ++c) store(y + c, load(row + width + c) * sum[c]);
        for (int64_t c = 0; gated && c < n; ++c) gated[r * width + begin + c] = now[c];
      }
    }
  });
}

// With g = B x, v the sum and y = C v: dC = dy v, and with dv = dy C: dg of a row is the same sum over the dv of the
// rows behind it, and the kernel's gradient that of dv times g.
void backward(const ShortConv& conv, ConstView in, ConstView d_out, const ShortConvSpan* spans, int64_t count,
              View d_in, float* d_kernel, int64_t begin, int64_t end) {
  const int64_t n = end - begin, taps = conv.taps, width = conv.width;
  Lanes kernel[ShortConv::most_taps], ring[ShortConv::most_taps], d_sums[ShortConv::most_taps], sum, dv;
  take_kernel(conv, begin, n, kernel);
  clear(d_sums, taps);
  with_float_type(d_in.dtype, [&]<class T>(T*) {
    for (int64_t s = 0; s < count; ++s) {
      const ShortConvSpan& span = spans[s];
      clear(ring, taps);
      for (int64_t t = span.rows - 1; t >= 0; --t) {
        const int64_t r = span.first_row + t;
        const T *row = in.row<T>(r) + begin, *dy = d_out.row<T>(r) + begin;
        T* dx = d_in.row<T>(r) + begin;
        multiply(dy, row + width, n, ring[t % taps]);
        convolve(kernel, ring, taps, t % taps, 1, n, sum);
#pragma omp simd
        for (int64_t c = 0; c < n; ++c) {
          store(dx + c, sum[c] * load(row + 2 * width + c));
          store(dx + 2 * width + c, sum[c] * load(row + c));
        }
      }
      clear(ring, taps);
      for (int64_t t = 0; t < span.rows; ++t) {
        const int64_t r = span.first_row + t;
        const T *row = in.row<T>(r) + begin, *dy = d_out.row<T>(r) + begin;
        T* dx = d_in.row<T>(r) + width + begin;
        multiply(row, row + 2 * width, n, ring[t % taps]);
        convolve(kernel, ring, taps, t % taps, -1, n, sum);
#pragma omp simd
        for (int64_t c = 0; c < n; ++c) store(dx + c, load(dy + c) * sum[c]);
        if (!d_kernel) continue;
        multiply(dy, row + width, n, dv);
        for (int64_t k = 0; k < taps; ++k) {
          const float* then = ring[(t - k + taps) % taps];
#pragma omp simd
          for (int64_t c = 0; c < n; ++c) d_sums[k][c] += dv[c] * then[c];
        }
      }
    }
  });
  for (int64_t c = 0; d_kernel && c < n; ++c)
    for (int64_t k = 0; k < taps; ++k) d_kernel[(begin + c) * taps + k] += d_sums[k][c];
}

}  // namespace

template <>
ShortConvFunctions functions_of<ShortConvFunctions>() {
  return {forward, backward};
}

}  // namespace hone::kernels::HONE_ISA
