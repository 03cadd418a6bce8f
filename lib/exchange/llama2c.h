// Models as llama2.c keeps them (github.com/karpathy/llama2.c, export.py): one .bin of f32 numbers, or of int8 ones.
#pragma once

#include <string>

#include "exchange/format.h"

namespace hone {

bool is_llama2c(const std::string& path);  // by its name, and not one of Hone's by its first bytes

// Versions 0 (without a magic number), 1, and 2, whose matrices are quantized in groups and become f32. Throws
// Error(input) for files that are damaged or of another length than their header tells. The tokenizer is in another
// file, and not read.
Imported import_llama2c(const std::string& path);

}  // namespace hone
