#include "measure/kernel_bench.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/clock.h"
#include "base/stop.h"
#include "kernels/gemm/gemm.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"

namespace hone {
namespace {

// Puts instruction set and threads back at the end of the scope.
class Restore {
 public:
  Restore() : isa_(isa()), threads_(kernels::threads()) {}
  ~Restore() {
    set_isa(isa_);
    kernels::set_threads(threads_);
  }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

 private:
  Isa isa_;
  int threads_;
};

double seconds_of(const std::function<void()>& run, int64_t count) {
  const Stopwatch watch;
  for (int64_t i = 0; i < count; check_stop(), ++i) run();
  return watch.seconds() / static_cast<double>(count);
}

// How often a kernel runs in a repetition, and how many repetitions there are.
struct Plan {
  int64_t runs = 1, repetitions = 1;
};

// Warms up on the way: the first run does not count where a second one is cheap.
Plan plan_for(const std::function<void()>& run, const KernelSettings& settings) {
  double once = seconds_of(run, 1);
  if (once < 10 * settings.seconds) once = seconds_of(run, 1);
  const auto fitting = [&](double seconds) { return static_cast<int64_t>(std::ceil(seconds / std::max(once, 1e-9))); };
  const int64_t runs = std::max<int64_t>(1, fitting(settings.seconds));
  return {runs, std::clamp<int64_t>(fitting(settings.most_seconds) / runs, 1, settings.repeat)};
}

}  // namespace

KernelResult time_kernel(const KernelEntry& entry, std::span<const Isa> levels, const KernelSettings& settings) {
  const Restore scope;
  kernels::set_threads(settings.threads);
  const KernelCase kernel = entry.make();
  KernelResult result{kernel.flops, kernel.bytes, kernel.type, {}};
  std::vector<Plan> plans;
  for (const Isa level : levels) {
    set_isa(level);
    plans.push_back(plan_for(kernel.run, settings));
    if (kernel.dense) kernel.dense();  // warms up
    result.levels.push_back({level, {}});
  }
  for (int64_t repetition = 0; repetition < settings.repeat; ++repetition)
    for (size_t i = 0; i < levels.size(); ++i) {
      if (repetition >= plans[i].repetitions) continue;
      set_isa(levels[i]);
      result.levels[i].seconds.push_back(seconds_of(kernel.run, plans[i].runs));
      if (kernel.dense) result.levels[i].dense_seconds.push_back(seconds_of(kernel.dense, plans[i].runs));
    }
  return result;
}

double matrix_peak(DType type, const kernels::Ceilings& ceilings) {
  return type == DType::bf16 ? std::max(ceilings.bf16_flops_per_second, ceilings.f32_flops_per_second)
                             : ceilings.f32_flops_per_second;
}

Bound bound_of(double flops, double bytes, DType type, const kernels::Ceilings& ceilings) {
  const double matrix = flops / matrix_peak(type, ceilings), memory = bytes / ceilings.read_bytes_per_second;
  return matrix >= memory ? Bound{matrix, "matrix"} : Bound{memory, "bandwidth"};
}

double product_rate(DType type, int threads) {
  if (type == DType::bf16 && !kernels::fast_bf16()) return 0;
  const Restore scope;
  kernels::set_threads(threads);
  constexpr int64_t n = 2048;
  const Tensor a = Tensor::zeros({n, n}, type), b = Tensor::zeros({n, n}, type), c = Tensor::empty({n, n});
  double best = std::numeric_limits<double>::infinity();
  for (int pass = 0; pass < 4; ++pass) {  // the first builds the library's code
    check_stop();
    const Stopwatch watch;
    if (type == DType::bf16)
      kernels::gemm_panels(a.view(), b.data<bf16>(), n, n, c.view());
    else
      kernels::gemm(a.view(), false, b.view(), true, c.view());
    best = std::min(best, watch.seconds());
  }
  return 2.0 * n * n * n / best;
}

}  // namespace hone
