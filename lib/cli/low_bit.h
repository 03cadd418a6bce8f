// Options of the tools that run models: fewer bits for what is computed and remembered while they run.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "base/dtype.h"
#include "kernels/attention/cache_code.h"
#include "kernels/packed/packed.h"

namespace hone::cli {

struct LowBitOptions {
  std::string activations = "same", cache_type = "same";

  void add(CLI::Option_group* group);
  // Throws Error(usage) where --precision says that activations stay f32.
  void check(const std::string& precision) const;
  // How the activations of a --precision meet weights that are integers.
  kernels::ActivationRounding rounding(const std::string& precision) const;
  kernels::CacheCode code() const;
  // ", int8 activations, int4 cache" for reports, or nothing.
  std::string described() const;
  // On stderr: where --activations has no effect, and where without it a model's file has 8 bits. `forms`: of all
  // models' weights, as weight_forms() has them.
  void tell_of_activations(const std::string& forms) const;
};

}  // namespace hone::cli
