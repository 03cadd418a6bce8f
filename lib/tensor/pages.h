// Memory of mapped files, given back before the file is unmapped.
#pragma once

#include "tensor/tensor.h"

namespace hone {

// Of a tensor over a mapped file: its pages leave this process's memory until they are touched again, when the system
// reads them anew. For who walks through a file that is larger than what it may take. Nothing happens to owned storage.
void let_go(const Tensor& tensor);

}  // namespace hone
