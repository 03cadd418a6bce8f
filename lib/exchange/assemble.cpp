#include "exchange/assemble.h"

#include <algorithm>

#include "base/error.h"
#include "kernels/parallel.h"

namespace hone {
namespace {

class Lister : public Reader {
 public:
  explicit Lister(std::vector<ParameterShape>& into) : into_(into) {}
  void weight(const ParameterInfo& info, const Weight& weight) override {
    into_.push_back({info, {weight.rows(), weight.cols()}, true});
  }
  void parameter(const ParameterInfo& info, const Parameter& parameter) override {
    into_.push_back({info, parameter.value.shape(), false});
  }

 private:
  std::vector<ParameterShape>& into_;
};

// Calls f(row of the parameter's part, row of the tensor), on all threads.
template <class F>
void each_row(const Part& part, F&& f) {
  kernels::parallel_for(rows_of(part), 1 + 65536 / cols_of(part), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) f(r, part.rows.empty() ? r : part.rows[static_cast<size_t>(r)]);
  });
}

}  // namespace

std::vector<ParameterShape> parameter_shapes(const Config& config) {
  const ShapesOnly shapes;
  const Transformer model(config);
  std::vector<ParameterShape> all;
  Lister lister(all);
  model.visit(lister);
  return all;
}

int64_t rows_of(const Part& part) {
  return part.shape[part.transposed ? 1 : 0];
}

int64_t cols_of(const Part& part) {
  return part.shape.size() < 2 ? 1 : part.shape[part.transposed ? 0 : 1];
}

Tensor assemble(const Parts& parts, const Shape& shape, const TensorSource& source) {
  if (parts.zero) return Tensor::zeros(shape);
  if (parts.parts.size() == 1 && parts.parts[0].rows.empty() && !parts.parts[0].transposed)
    return source(parts.parts[0]).reshape(shape);
  const Tensor whole = Tensor::empty(shape);
  int64_t first = 0;
  for (const Part& part : parts.parts) {
    const Tensor tensor = source(part);
    const int64_t rows = rows_of(part), cols = cols_of(part);
    const float* from = tensor.data<float>();
    float* to = whole.data<float>() + first * cols;
    each_row(part, [&](int64_t r, int64_t at) {
      if (part.transposed)
        for (int64_t c = 0; c < cols; ++c) to[r * cols + c] = from[c * rows + at];
      else
        std::copy_n(from + at * cols, cols, to + r * cols);
    });
    first += rows;
  }
  return whole;
}

Tensor take_apart(const Part& part, const Tensor& parameter, int64_t first) {
  const int64_t rows = rows_of(part), cols = cols_of(part);
  const float* from = parameter.data<float>() + first * cols;
  if (part.rows.empty() && !part.transposed && rows * cols == parameter.size()) return parameter.reshape(part.shape);
  const Tensor tensor = Tensor::empty(part.shape);
  float* to = tensor.data<float>();
  each_row(part, [&](int64_t r, int64_t at) {
    if (part.transposed)
      for (int64_t c = 0; c < cols; ++c) to[c * rows + at] = from[r * cols + c];
    else
      std::copy_n(from + r * cols, cols, to + at * cols);
  });
  return tensor;
}

}  // namespace hone
