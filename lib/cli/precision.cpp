#include "cli/precision.h"

#include "cli/option_values.h"
#include "kernels/gemm/gemm.h"

namespace hone::cli {

using kernels::F32Activations;

void add_precision(CLI::Option_group* group, std::string& precision, bool trains) {
  std::vector<std::string> values = {"auto", "bf16", "f32", "f32-i16"};
  std::string help =
      "What is computed in. bf16: activations, and weights where many rows are multiplied at once, are rounded to "
      "bf16. f32: weights exactly as the file has them, activations and sums in f32. f32-i16: the same, but "
      "activations that meet weights of integers are rounded to 16-bit integers, which is faster. auto: bf16 where the "
      "processor computes in it, else f32-i16";
  if (trains) {
    values.emplace_back("int8");
    help += ". int8, with --train: bf16 with products of blocks in 8 bits";
  }
  group->add_option("--precision", precision, help)->check(one_of(values));
}

DType type_of(const std::string& precision) {
  if (precision == "auto") return kernels::default_type();
  return precision == "bf16" || is_int8(precision) ? DType::bf16 : DType::f32;
}

bool is_int8(const std::string& precision) {
  return precision == "int8";
}

F32Activations f32_activations(const std::string& precision) {
  return precision == "f32" ? F32Activations::exact : F32Activations::integers;
}

std::string precision_in_use(const std::string& precision) {
  if (type_of(precision) == DType::bf16) return "bf16";
  return f32_activations(precision) == F32Activations::exact ? "f32" : "f32-i16";
}

}  // namespace hone::cli
