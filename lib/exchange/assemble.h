// Between parameters and the tensors of a file: what is read is put together, what is written is taken apart.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>

#include "exchange/architecture.h"
#include "exchange/format.h"

namespace hone {

// The shape of a parameter and what it is.
struct ParameterShape {
  ParameterInfo info;
  Shape shape;
  bool matrix = false;  // a Weight; else a Parameter
};
// Of a model of this configuration, in the order of its file. Takes no memory for the numbers.
std::vector<ParameterShape> parameter_shapes(const Config& config);

// Puts numbers of the tensor of a part, as it lies in a file, at `to`: those from number `first` on. Returns 0 or an
// errno; called by several threads at once, and must not throw.
using TensorReader = std::function<int(const Part& part, int64_t first, std::span<float> to)>;

// The same of a parameter, out of its parts.
int read_numbers(const Parts& parts, int64_t first, std::span<float> to, const TensorReader& read);

// The parameters of a model as a ModelFile promises them: each out of parts of files.
class PromisedParameters {
 public:
  void add(const ParameterShape& parameter, Parts parts);
  const std::map<std::string, Parts>& parts() const { return parts_; }  // by parameter
  // Of what was added: the promises, and how `read` keeps them.
  void into(Imported& imported, TensorReader read) &&;

 private:
  std::map<std::string, Parts> parts_;
  std::map<std::string, Encoded> promises_;
  int64_t elements_ = 0;
};

// The numbers of one part, f32 in the shape of the file, out of a parameter whose rows from `first` on it is.
Tensor take_apart(const Part& part, const Tensor& parameter, int64_t first);

int64_t rows_of(const Part& part);  // of the parameter that it is
int64_t cols_of(const Part& part);  // 1 for vectors

}  // namespace hone
