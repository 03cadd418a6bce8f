// Speed of single kernels at each instruction set, against the portable one and against what the machine can do.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "kernels/ceilings.h"
#include "tensor/tensor.h"

namespace hone {

// A kernel with arguments set up: what run() does once. A fraction of a ceiling follows from `flops` and `bytes`: a
// kernel that has both can be no faster than the slower of them allows.
struct KernelCase {
  DType type = DType::f32;  // of the products that count for the matrix peak
  double flops = 0;  // multiplications and additions of products; 0: reading and writing memory is what takes time
  double bytes = 0;  // read and written, of arrays that the caches cannot hold; 0: products are what takes time
  std::function<void()> run;
  std::vector<Tensor> kept = {};  // arrays that run() has pointers into
  // The dense product of the same size that run() is compared with, where there is one.
  std::function<void()> dense = {};
};

struct KernelEntry {
  std::string name;   // "attention_forward"
  std::string shape;  // "1 x 12 heads x 1024 x 64 bf16", for people
  // A product of the library oneDNN, which keeps the instruction set of its first use: shown at the current level, and
  // at `portable`, where Eigen computes it.
  bool library;
  std::function<KernelCase()> make;  // allocates and fills the arrays
};

// The one table of what is measured: a new kernel is a line in kernel_bench_cases.cpp.
std::span<const KernelEntry> kernel_entries();

struct KernelSettings {
  int threads = 1;
  int64_t repeat = 5;
  double seconds = 0.02;  // least time of a repetition: the kernel runs as often as that takes
  // Of all repetitions at one level together, about; one there is always. Portable code may be a hundred times slower.
  double most_seconds = 1;
};

struct KernelTimes {
  Isa isa;
  std::vector<double> seconds;  // of a run, one for each repetition; fewer than asked for at a level that is slow
  std::vector<double> dense_seconds = {};  // of KernelCase::dense, in turn with it; empty where there is none
};

// Times an entry at each of `levels`, which must be of isa_levels(). The levels take turns, so that noise hits all
// alike. isa() and the number of threads are afterwards as before.
struct KernelResult {
  double flops, bytes;
  DType type;
  std::vector<KernelTimes> levels;
};
KernelResult time_kernel(const KernelEntry& entry, std::span<const Isa> levels, const KernelSettings& settings);

// The matrix peak for products of this type: without an instruction for bf16 they are computed in f32.
double matrix_peak(DType type, const kernels::Ceilings& ceilings);

// Least seconds that `flops` and `bytes` take by the ceilings, and which of them that is: "matrix" or "bandwidth".
struct Bound {
  double seconds;
  const char* name;
};
Bound bound_of(double flops, double bytes, DType type, const kernels::Ceilings& ceilings);

// Flop/s of the library's own 2048 x 2048 x 2048 product, for kernels::measure_ceilings; 0 for bf16 where f32 is as
// fast.
double product_rate(DType type, int threads);

}  // namespace hone
