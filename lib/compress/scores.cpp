#include "compress/scores.h"

#include <cmath>

#include "base/error.h"
#include "kernels/parallel.h"

namespace hone {
namespace {

template <class F>
Tensor each_element(const Tensor& weight, F&& f) {
  const int64_t rows = weight.dim(0), cols = weight.dim(1);
  Tensor scores = Tensor::empty({rows, cols});
  const float* w = weight.data<float>();
  float* s = scores.data<float>();
  kernels::parallel_for(rows, kernels::row_grain(cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < cols; ++c) s[r * cols + c] = f(w[r * cols + c], c);
  });
  return scores;
}

Tensor magnitude(const Tensor& weight, std::span<const float>) {
  return each_element(weight, [](float w, int64_t) { return std::fabs(w); });
}

Tensor wanda(const Tensor& weight, std::span<const float> norms) {
  const float* norm = norms.data();
  return each_element(weight, [norm](float w, int64_t c) { return std::fabs(w) * norm[c]; });
}

constexpr ScoreMethod kMethods[] = {
    {"magnitude", "smallest absolute value, compared over the whole layer", false, ComparisonGroup::layer, magnitude},
    {"wanda", "smallest |weight| x norm of its input, compared within each output row", true, ComparisonGroup::row,
     wanda},
};

}  // namespace

std::span<const ScoreMethod> score_methods() {
  return kMethods;
}

const ScoreMethod& score_method(std::string_view name) {
  std::string known;
  for (const ScoreMethod& method : kMethods) {
    if (method.name == name) return method;
    known += (known.empty() ? "" : ", ") + std::string(method.name);
  }
  throw usage_error("unknown pruning method '{}'; choose one of {}", name, known);
}

Tensor pruning_scores(const ScoreMethod& method, const Tensor& weight, std::span<const float> norms,
                      const std::string& where) {
  if (method.needs_calibration) {
    if (norms.empty())
      throw usage_error("method {} needs the norms of {}'s inputs; give a text with --calibration FILE", method.name,
                        where);
    if (static_cast<int64_t>(norms.size()) != weight.dim(1))
      throw internal_error("{}: {} activation norms for {} columns", where, norms.size(), weight.dim(1));
  }
  return method.scores(weight, norms);
}

}  // namespace hone
