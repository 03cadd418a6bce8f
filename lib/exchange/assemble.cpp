#include "exchange/assemble.h"

#include <algorithm>
#include <array>

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

int read_in_order(const Part& part, int64_t first, std::span<float> to, const TensorReader& read) {
  return read(part, first, to);
}

// Rows that are neighbours in the file, too, are read at once.
int read_rows(const Part& part, int64_t first, std::span<float> to, const TensorReader& read) {
  const int64_t cols = cols_of(part);
  while (!to.empty()) {
    const auto row = static_cast<size_t>(first / cols);
    const int64_t col = first % cols, wanted = static_cast<int64_t>(to.size());
    int64_t rows = 1;
    while (rows * cols - col < wanted && part.rows[row + static_cast<size_t>(rows)] == part.rows[row] + rows) ++rows;
    const int64_t count = std::min(rows * cols - col, wanted);
    if (const int error = read(part, part.rows[row] * cols + col, to.first(static_cast<size_t>(count)))) return error;
    to = to.subspan(static_cast<size_t>(count));
    first += count;
  }
  return 0;
}

// Of each column so much as lies in the range, which is together in the file. No part is transposed and in another
// order.
int read_transposed(const Part& part, int64_t first, std::span<float> to, const TensorReader& read) {
  const int64_t rows = rows_of(part), cols = cols_of(part), last = first + static_cast<int64_t>(to.size());
  std::array<float, 1024> some;
  for (int64_t c = 0; c < cols; ++c) {
    const int64_t end = (last - c + cols - 1) / cols;  // element (r, c) is number r * cols + c
    for (int64_t r = (first - c + cols - 1) / cols; r < end;) {
      const int64_t count = std::min(end - r, static_cast<int64_t>(some.size()));
      if (const int error = read(part, c * rows + r, std::span(some).first(static_cast<size_t>(count)))) return error;
      for (int64_t i = 0; i < count; ++i)
        to[static_cast<size_t>((r + i) * cols + c - first)] = some[static_cast<size_t>(i)];
      r += count;
    }
  }
  return 0;
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

int read_numbers(const Parts& parts, int64_t first, std::span<float> to, const TensorReader& read) {
  if (parts.zero) {
    std::ranges::fill(to, 0.0f);
    return 0;
  }
  const int64_t last = first + static_cast<int64_t>(to.size());
  int64_t part_begin = 0;
  for (const Part& part : parts.parts) {
    const int64_t part_end = part_begin + elements(part.shape);
    const int64_t begin = std::max(first, part_begin), end = std::min(last, part_end);
    if (begin < end) {
      const auto here = to.subspan(static_cast<size_t>(begin - first), static_cast<size_t>(end - begin));
      const auto by = part.transposed ? read_transposed : part.rows.empty() ? read_in_order : read_rows;
      if (const int error = by(part, begin - part_begin, here, read)) return error;
    }
    part_begin = part_end;
  }
  return 0;
}

void PromisedParameters::add(const ParameterShape& parameter, Parts parts) {
  const std::string& name = parameter.info.name;
  promises_[name] = {"dense", "f32", parameter.shape, {}, {{"values", Tensor::promised(parameter.shape)}}};
  elements_ += elements(parameter.shape);
  parts_[name] = std::move(parts);
}

void PromisedParameters::into(Imported& imported, TensorReader read) && {
  imported.file.parameters = std::move(promises_);
  imported.parameters = elements_;
  imported.read = [parts = std::move(parts_), read = std::move(read)](const std::string& parameter, const std::string&,
                                                                      uint64_t begin, std::span<std::byte> to) {
    const std::span<float> numbers(reinterpret_cast<float*>(to.data()), to.size() / sizeof(float));
    return read_numbers(parts.at(parameter), static_cast<int64_t>(begin / sizeof(float)), numbers, read);
  };
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
