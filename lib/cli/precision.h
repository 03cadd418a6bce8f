// --precision of the tools that run packed models: what they compute in.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "base/dtype.h"

namespace hone::cli {

// `trains`: the tool also trains, which may be in int8.
void add_precision(CLI::Option_group* group, std::string& precision, bool trains = false);

// The type of activations for "bf16", "f32", "f32-i16", "int8" or "auto": bf16 where the processor computes in it.
DType type_of(const std::string& precision);

// Of training: products in 8 bits of activations in bf16.
bool is_int8(const std::string& precision);

// The type of activations for one of the values that add_precision() takes. Also tells the kernels how f32 activations
// meet integer weights: rounded to 16 bits for "f32-i16" and, on processors that do not compute in bf16, "auto".
DType use_precision(const std::string& precision);

// What reports call it where nothing is trained, after use_precision(): bf16, f32 or f32-i16.
std::string precision_in_use(DType type);

}  // namespace hone::cli
