#include "kernels/parallel.h"

#include <omp.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace hone::kernels {

void set_threads(int count) {
  omp_set_num_threads(count);
#if defined(__x86_64__)
  // Numbers below 1e-38 become 0: the optimizer's moments decay into them, and they cost a hundred times as much.
#pragma omp parallel num_threads(count)
  _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
}

int threads() {
  return omp_get_max_threads();
}

int thread_index() {
  return omp_get_thread_num();
}

bool in_parallel() {
  return omp_in_parallel() != 0;
}

namespace detail {

void run(int parts, void (*body)(void*, int), void* context) {
#pragma omp parallel num_threads(parts)
  body(context, omp_get_thread_num());
}

void run_each(int64_t n, void (*body)(void*, int64_t), void* context) {
  if (n <= 1 || omp_in_parallel() != 0) {
    for (int64_t i = 0; i < n; ++i) body(context, i);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t i = 0; i < n; ++i) body(context, i);
}

}  // namespace detail
}  // namespace hone::kernels
