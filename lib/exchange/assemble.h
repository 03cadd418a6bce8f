// Between parameters and the tensors of a file: what is read is put together, what is written is taken apart.
#pragma once

#include <functional>

#include "exchange/architecture.h"

namespace hone {

// The shape of a parameter and what it is.
struct ParameterShape {
  ParameterInfo info;
  Shape shape;
  bool matrix = false;  // a Weight; else a Parameter
};
// Of a model of this configuration, in the order of its file. Takes no memory for the numbers.
std::vector<ParameterShape> parameter_shapes(const Config& config);

// f32 numbers of a tensor of a file, in its shape.
using TensorSource = std::function<Tensor(const Part& part)>;

// The numbers of a parameter, f32 of its shape, out of its parts.
Tensor assemble(const Parts& parts, const Shape& shape, const TensorSource& source);

// The numbers of one part, f32 in the shape of the file, out of a parameter whose rows from `first` on it is.
Tensor take_apart(const Part& part, const Tensor& parameter, int64_t first);

int64_t rows_of(const Part& part);  // of the parameter that it is
int64_t cols_of(const Part& part);  // 1 for vectors

}  // namespace hone
