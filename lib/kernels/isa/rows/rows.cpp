// Norms and cross-entropy: reductions over a row.
#include "kernels/isa/rows/rows.h"

#include "kernels/isa/scalar_math.h"

namespace hone::kernels::HONE_ISA {
using namespace scalar;

void norm_forward(const NormForward& a, int64_t begin, int64_t end) {
  const int64_t dim = a.y.cols;
  const float inverse_dim = 1.0f / static_cast<float>(dim);
  with_float_type(a.y.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = a.residual.row<float>(r);
      if (a.branch.data) {
        const T* branch = a.branch.row<T>(r);
        float* sum = a.residual_out.row<float>(r);
#pragma omp simd
        for (int64_t c = 0; c < dim; ++c) sum[c] = x[c] + load(branch + c);
        x = sum;
      }
      float mean = 0;
      if (a.center) {
#pragma omp simd reduction(+ : mean)
        for (int64_t c = 0; c < dim; ++c) mean += x[c];
        mean *= inverse_dim;
      }
      float squares = 0;
#pragma omp simd reduction(+ : squares)
      for (int64_t c = 0; c < dim; ++c) squares += (x[c] - mean) * (x[c] - mean);
      const float inverse = 1.0f / __builtin_sqrtf(squares * inverse_dim + a.epsilon);
      T* y = a.y.row<T>(r);
      if (a.bias) {
#pragma omp simd
        for (int64_t c = 0; c < dim; ++c) store(y + c, (x[c] - mean) * inverse * a.gain[c] + a.bias[c]);
      } else {
#pragma omp simd
        for (int64_t c = 0; c < dim; ++c) store(y + c, (x[c] - mean) * inverse * a.gain[c]);
      }
      if (a.mean && a.center) a.mean[r] = mean;
      if (a.inverse) a.inverse[r] = inverse;
    }
  });
}

// With h = (x - mean) * inverse and g = dy * gain:  dx = inverse * (g - mean(g) - h * mean(g * h)), without mean(g)
// where the norm does not center.
void norm_backward(const NormBackward& a, int64_t begin, int64_t end) {
  const int64_t dim = a.x.cols;
  const float inverse_dim = 1.0f / static_cast<float>(dim);
  with_float_type(a.dy.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = a.x.row<float>(r);
      const T* dy = a.dy.row<T>(r);
      const float mean = a.center ? a.mean[r] : 0.0f, inverse = a.inverse[r];
      float sum_g = 0, sum_gh = 0;
#pragma omp simd reduction(+ : sum_g, sum_gh)
      for (int64_t c = 0; c < dim; ++c) {
        const float g = load(dy + c) * a.gain[c];
        sum_g += g;
        sum_gh += g * ((x[c] - mean) * inverse);
      }
      const float mean_g = a.center ? sum_g * inverse_dim : 0.0f, mean_gh = sum_gh * inverse_dim;
      float* d = a.d_residual.row<float>(r);
      if (a.d_gain) {
#pragma omp simd
        for (int64_t c = 0; c < dim; ++c) a.d_gain[c] += load(dy + c) * ((x[c] - mean) * inverse);
      }
      if (a.d_bias) {
#pragma omp simd
        for (int64_t c = 0; c < dim; ++c) a.d_bias[c] += load(dy + c);
      }
#pragma omp simd
      for (int64_t c = 0; c < dim; ++c) {
        const float h = (x[c] - mean) * inverse;
        d[c] += inverse * (load(dy + c) * a.gain[c] - mean_g - h * mean_gh);
      }
      if (a.d_branch.data) {
        T* branch = a.d_branch.row<T>(r);
#pragma omp simd
        for (int64_t c = 0; c < dim; ++c) store(branch + c, d[c]);
      }
    }
  });
}

void cross_entropy(const CrossEntropy& a, int64_t begin, int64_t end) {
  const int64_t vocabulary = a.vocabulary;
  with_float_type(a.logits.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      T* row = a.logits.row<T>(r);
      float largest = load(row);
#pragma omp simd reduction(max : largest)
      for (int64_t c = 0; c < vocabulary; ++c) largest = load(row + c) > largest ? load(row + c) : largest;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t c = 0; c < vocabulary; ++c) sum += exp_fast(load(row + c) - largest);
      const int32_t target = a.targets[r];
      const bool scored = target >= 0;
      a.losses[r] = 0;
      a.correct[r] = 0;
      const float log_sum = scored ? __builtin_logf(sum) + largest : 0.0f;
      if (a.log_sums) a.log_sums[r] = log_sum;
      if (scored) {
        a.losses[r] = log_sum - load(row + target);
        // The first of equal logits is the prediction.
        bool first = load(row + target) == largest;
        for (int64_t c = 0; first && c < target; ++c) first = load(row + c) != largest;
        a.correct[r] = first;
      }
      if (a.gradient_scale == 0.0f) continue;
      const float of_z = 1.0f + 2.0f * a.z_weight * log_sum;  // d log Z once, and of its square
      const float factor = scored ? a.gradient_scale * of_z / sum : 0.0f;
      const float at_target = scored ? exp_fast(load(row + target) - largest) * factor - a.gradient_scale : 0.0f;
#pragma omp simd
      for (int64_t c = 0; c < vocabulary; ++c) store(row + c, exp_fast(load(row + c) - largest) * factor);
      for (int64_t c = vocabulary; c < a.logits.cols; ++c) store(row + c, 0.0f);
      if (scored) store(row + target, at_target);
    }
  });
}

void sum_logits(ConstView logits, int64_t tokens, const int32_t* targets, LogitSum* sums, int64_t begin, int64_t end) {
  with_float_type(logits.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      const T* row = logits.row<T>(r);
      float largest = -__builtin_inff();
#pragma omp simd reduction(max : largest)
      for (int64_t c = 0; c < tokens; ++c) largest = load(row + c) > largest ? load(row + c) : largest;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t c = 0; c < tokens; ++c) sum += exp_fast(load(row + c) - largest);
      int64_t at = 0;
      while (at < tokens && load(row + at) != largest) ++at;
      sums[r] = {largest, sum, targets[r] >= 0 ? load(row + targets[r]) : 0.0f, static_cast<int32_t>(at)};
    }
  });
}

void logit_gradient(const LogitGradient& a, int64_t begin, int64_t end) {
  with_float_type(a.logits.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      T* row = a.logits.row<T>(r);
      const int32_t target = a.targets[r];
      const float log_sum = a.log_sums[r], factor = a.factors[r];
      const float at_target = target >= 0 ? exp_fast(load(row + target) - log_sum) * factor - a.at_target : 0.0f;
#pragma omp simd
      for (int64_t c = 0; c < a.tokens; ++c) store(row + c, exp_fast(load(row + c) - log_sum) * factor);
      for (int64_t c = a.tokens; c < a.logits.cols; ++c) store(row + c, 0.0f);
      if (target >= 0) store(row + target, factor == 0.0f ? 0.0f : at_target);
    }
  });
}

}  // namespace hone::kernels::HONE_ISA
