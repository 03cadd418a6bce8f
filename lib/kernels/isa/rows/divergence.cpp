// Divergence from a teacher's predictions, kernels/rows/divergence.h.
#include "kernels/isa/rows/rows.h"
#include "kernels/isa/scalar_math.h"

namespace hone::kernels::HONE_ISA {
using namespace scalar;
namespace {

template <class T>
float largest_of(const T* row, int64_t n) {
  float largest = n > 0 ? load(row) : -__builtin_inff();
#pragma omp simd reduction(max : largest)
  for (int64_t c = 0; c < n; ++c) largest = load(row + c) > largest ? load(row + c) : largest;
  return largest;
}

// Of exp((row[c] - largest) / temperature).
template <class T>
float sum_of_exponentials(const T* row, int64_t n, float largest, float inverse) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < n; ++c) sum += exp_fast((load(row + c) - largest) * inverse);
  return sum;
}

template <class T>
void no_gradient(T* row, int64_t begin, int64_t end) {
  for (int64_t c = begin; c < end; ++c) store(row + c, 0.0f);
}

// An unscored row is done; so is one whose gradient nobody wants, once it has its loss.
template <class T>
bool passed_over(const DivergenceRows& a, T* row, int64_t r) {
  a.losses[r] = 0;
  if (a.targets[r] >= 0) return false;
  if (a.gradient_scale != 0.0f) no_gradient(row, 0, a.logits.cols);
  return true;
}

// Rounding may leave it a little below 0.
float loss_of(float kl, float temperature) {
  return kl > 0.0f ? kl * temperature * temperature : kl != kl ? kl : 0.0f;
}

// Of n columns.
template <class T>
DivergenceSum sum_of_columns(const T* row, const T* teacher, int64_t n, float inverse) {
  DivergenceSum s = {largest_of(row, n), largest_of(teacher, n), 0, 0, 0};
  const float top = s.largest, teacher_top = s.teacher_largest;
  s.sum = sum_of_exponentials(row, n, top, inverse);
  float teacher_sum = 0, weighted = 0;
#pragma omp simd reduction(+ : teacher_sum, weighted)
  for (int64_t c = 0; c < n; ++c) {
    const float x = (load(teacher + c) - teacher_top) * inverse, p = exp_fast(x);
    teacher_sum += p;
    weighted += p * (x - (load(row + c) - top) * inverse);
  }
  s.teacher_sum = teacher_sum;
  s.weighted = weighted;
  return s;
}

// Loss and gradient of a row whose sums over the whole vocabulary are known.
template <class T>
void finish_row(const DivergenceRows& a, T* row, const T* teacher, const DivergenceSum& s, int64_t r) {
  const float kl = s.weighted / s.teacher_sum - __builtin_logf(s.teacher_sum) + __builtin_logf(s.sum);
  a.losses[r] = loss_of(kl, a.temperature);
  if (a.gradient_scale == 0.0f) return;
  const float inverse = 1.0f / a.temperature, scale = a.gradient_scale * a.temperature;
  const float q = scale / s.sum, p = scale / s.teacher_sum, top = s.largest, teacher_top = s.teacher_largest;
  const int64_t n = a.vocabulary;
#pragma omp simd
  for (int64_t c = 0; c < n; ++c)
    store(row + c,
          q * exp_fast((load(row + c) - top) * inverse) - p * exp_fast((load(teacher + c) - teacher_top) * inverse));
  no_gradient(row, n, a.logits.cols);
}

}  // namespace

void divergence(const DivergenceRows& a, int64_t begin, int64_t end) {
  with_float_type(a.logits.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      T* row = a.logits.row<T>(r);
      if (passed_over(a, row, r)) continue;
      const T* teacher = a.teacher.row<T>(r);
      finish_row<T>(a, row, teacher, sum_of_columns<T>(row, teacher, a.vocabulary, 1.0f / a.temperature), r);
    }
  });
}

void divergence_sums(const DivergenceRows& a, DivergenceSum* sums, int64_t begin, int64_t end) {
  with_float_type(a.logits.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r)
      if (a.targets[r] >= 0)
        sums[r] = sum_of_columns<T>(a.logits.row<T>(r), a.teacher.row<T>(r), a.vocabulary, 1.0f / a.temperature);
  });
}

void divergence_from_sums(const DivergenceRows& a, const DivergenceSum* sums, int64_t begin, int64_t end) {
  with_float_type(a.logits.dtype, [&]<class T>(T*) {
    for (int64_t r = begin; r < end; ++r) {
      T* row = a.logits.row<T>(r);
      if (!passed_over(a, row, r)) finish_row<T>(a, row, a.teacher.row<T>(r), sums[r], r);
    }
  });
}

void divergence_from_top(const DivergenceRows& a, const TopPredictions& likeliest, int64_t begin, int64_t end) {
  const float inverse = 1.0f / a.temperature;
  const int64_t n = a.vocabulary, count = likeliest.count;
  constexpr float never = -1e30f;  // its exponential is 0 for every sum
  with_float_type(a.logits.dtype, [&]<class T>(T*) {
    T kept[TopPredictions::most];
    for (int64_t r = begin; r < end; ++r) {
      T* row = a.logits.row<T>(r);
      if (passed_over(a, row, r)) continue;
      const int32_t* ids = likeliest.ids + r * count;
      const float* p = likeliest.probabilities + r * (count + 1);
      const float rest = p[count], top = largest_of(row, n);
      // The others' sum by itself: as a difference it would be lost in the rounding of the whole.
      float sum = 0;
      for (int64_t k = 0; k < count; ++k) {
        kept[k] = row[ids[k]];
        sum += exp_fast((load(row + ids[k]) - top) * inverse);
        store(row + ids[k], never);
      }
      const float others = count < n ? sum_of_exponentials(row, n, top, inverse) : 0.0f;
      sum += others;
      const float log_sum = __builtin_logf(sum);
      float kl = 0;
      for (int64_t k = 0; k < count; ++k) {
        row[ids[k]] = kept[k];
        if (p[k] > 0.0f) kl += p[k] * (__builtin_logf(p[k]) - ((load(kept + k) - top) * inverse - log_sum));
      }
      const bool counts = rest > 0.0f && others > 0.0f;
      if (counts) kl += rest * (__builtin_logf(rest) - (__builtin_logf(others) - log_sum));
      a.losses[r] = loss_of(kl, a.temperature);
      if (a.gradient_scale == 0.0f) continue;
      const float scale = a.gradient_scale * a.temperature;
      const float q = scale / sum, q_others = q - (counts ? scale * rest / others : 0.0f);
#pragma omp simd
      for (int64_t c = 0; c < n; ++c) store(row + c, q_others * exp_fast((load(row + c) - top) * inverse));
      for (int64_t k = 0; k < count; ++k)
        store(row + ids[k], q * exp_fast((load(kept + k) - top) * inverse) - scale * p[k]);
      no_gradient(row, n, a.logits.cols);
    }
  });
}

}  // namespace hone::kernels::HONE_ISA
