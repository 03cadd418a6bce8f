// The numbers of a model by the tensors of a file: what exports share.
#pragma once

#include <map>
#include <string>

#include "exchange/assemble.h"
#include "model/store.h"

namespace hone {

// By parameter; those of a matrix are made when they are asked for, and nothing of it is kept beside them. The model
// must outlive it, and nobody else may use its weights meanwhile.
class ModelNumbers {
 public:
  explicit ModelNumbers(const Transformer& model);
  Tensor of(const std::string& parameter) const;  // f32; of plain weights in a mapped file

 private:
  std::map<std::string, const Weight*> weights_;
  std::map<std::string, Tensor> values_;
};

// Where a tensor comes from: the rows of a parameter from `first` on. One of all experts comes from as many parameters,
// of which `part` is the first's.
struct TensorOrigin {
  std::string parameter;
  Part part;
  int64_t first = 0;
  std::vector<std::string> of_experts = {};  // empty: it is `parameter`
};
using TensorOrigins = std::map<std::string, TensorOrigin>;  // by tensor
// f32 in the shape that the tensor has in the file.
Tensor numbers_of(const TensorOrigin& origin, const ModelNumbers& numbers);

// Throws Error(usage) where a parameter that the files have nothing of is not 0.
TensorOrigins origins_of(const Config& config, Parts (*parts)(const Config&, const ParameterInfo&),
                         const ModelNumbers& numbers);

}  // namespace hone
