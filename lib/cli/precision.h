// --precision of the tools that run packed models: what they compute in.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "base/dtype.h"
#include "kernels/packed/packed.h"

namespace hone::cli {

// `trains`: the tool also trains, which may be in int8.
void add_precision(CLI::Option_group* group, std::string& precision, bool trains = false);

// The type of activations for "bf16", "f32", "f32-i16", "int8" or "auto": bf16 where the processor computes in it.
DType type_of(const std::string& precision);

// Of training: products in 8 bits of activations in bf16.
bool is_int8(const std::string& precision);

// How activations in f32 meet integer weights: rounded to integers for "f32-i16" and, on processors that do not compute
// in bf16, "auto".
kernels::F32Activations f32_activations(const std::string& precision);

// What reports call it where nothing is trained: bf16, f32 or f32-i16.
std::string precision_in_use(const std::string& precision);

}  // namespace hone::cli
