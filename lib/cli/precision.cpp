#include "cli/precision.h"

#include "cli/option_values.h"
#include "kernels/gemm/gemm.h"
#include "kernels/packed/packed.h"
#include "measure/evaluate.h"

namespace hone::cli {

using kernels::F32Activations;

void add_precision(CLI::Option_group* group, std::string& precision) {
  group
      ->add_option("--precision", precision,
                   "What is computed in. bf16: activations, and weights where many rows are multiplied at once, are "
                   "rounded to bf16. f32: weights exactly as the file has them, activations and sums in f32. f32-i16: "
                   "the same, but activations that meet int8 or int4 weights are rounded to 16-bit integers, which is "
                   "faster. auto: bf16 where the processor computes in it, else f32-i16")
      ->check(one_of({"auto", "bf16", "f32", "f32-i16"}));
}

DType use_precision(const std::string& precision) {
  kernels::set_f32_activations(precision == "f32" ? F32Activations::exact : F32Activations::integers);
  if (precision == "auto") return kernels::default_type();
  return precision == "bf16" ? DType::bf16 : DType::f32;
}

std::string precision_in_use(DType type) {
  if (type == DType::bf16) return "bf16";
  return kernels::f32_activations() == F32Activations::exact ? "f32" : "f32-i16";
}

}  // namespace hone::cli
