#include "train/optimizers/muon.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "kernels/gemm/gemm.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"
#include "train/optimizers/adamw.h"
#include "train/optimizers/moments.h"

namespace hone {
namespace {

// p(x) = a x + b x^3 + c x^5 for singular values.
struct Polynomial {
  float a, b, c;
};

// Optimal in turn for singular values from 1e-3 to 1 (Amsel et al.). All but the last are shrunk by 1.01: values that
// bf16 rounds above 1 still converge.
constexpr Polynomial polynomials[] = {{8.28721202f, -23.5958865f, 17.3003873f},
                                      {4.10705911f, -2.94784992f, 0.54484311f},
                                      {3.94869085f, -2.90890212f, 0.55181914f},
                                      {3.31841966f, -2.48848802f, 0.51004894f},
                                      {2.30065202f, -1.66890398f, 0.41880731f}};
constexpr float shrunk = 1.01f;

Polynomial polynomial(size_t i) {
  Polynomial p = polynomials[i];
  if (i + 1 == std::size(polynomials)) return p;
  return {p.a / shrunk, p.b / std::pow(shrunk, 3.0f), p.c / std::pow(shrunk, 5.0f)};
}

// What making a matrix orthogonal needs beside it, for one of [rows, cols] or smaller.
struct Workspace {
  Workspace(int64_t rows, int64_t cols, DType type)
      : factor(Tensor::empty({rows, cols}, type)),
        square(Tensor::empty({std::min(rows, cols), std::min(rows, cols)}, type)),
        sum(Tensor::empty(square.shape())) {}
  Tensor factor, square, sum;
};

// The first rows x cols elements of a tensor, as a matrix.
kernels::View first_of(const Tensor& x, int64_t rows, int64_t cols) {
  return {x.view().data, x.dtype(), rows, cols, cols};
}

void orthogonalize(kernels::View x, const Workspace& space) {
  const double norm = std::sqrt(kernels::sum_of_squares(x));
  if (norm == 0) return;
  kernels::scale(x, static_cast<float>(1 / (norm * 1.01)));
  const int64_t m = x.rows, n = x.cols, small = std::min(m, n);
  const bool wide = m <= n;
  const kernels::View factor = first_of(space.factor, m, n), square = first_of(space.square, small, small),
                      sum = first_of(space.sum, small, small);
  for (size_t i = 0; i < std::size(polynomials); ++i) {
    const Polynomial p = polynomial(i);
    // A = X X^T on the smaller side, then b A + c A^2 = c ((b/c) A + A A), then
    // a X + (b A + c A^2) X.
    kernels::convert(x, factor);
    kernels::gemm(factor, !wide, factor, wide, square);
    kernels::convert(square, sum);
    kernels::scale(sum, p.b / p.c);
    kernels::gemm(square, false, square, true, sum, true);
    kernels::scale(sum, p.c);
    kernels::convert(sum, square);
    kernels::scale(x, p.a);
    if (wide)
      kernels::gemm(square, false, factor, false, x, true);
    else
      kernels::gemm(factor, false, square, false, x, true);
  }
}

}  // namespace

void orthogonalize(kernels::View x, DType type) {
  orthogonalize(x, Workspace(x.rows, x.cols, type));
}

void orthogonalize_blocks(kernels::View x, int64_t block, DType type) {
  const bool by_rows = x.rows >= x.cols;
  const int64_t length = by_rows ? x.rows : x.cols;
  if (block == 0 || block >= length) return orthogonalize(x, type);
  const int64_t count = (length + block - 1) / block;
  const auto part = [&](int64_t i) {
    const int64_t first = i * block, size = std::min(block, length - first);
    return by_rows ? rows_of(x, first, size) : columns_of(x, first, size);
  };
  // A thread a block: products this small gain nothing from two. Memory is asked for before, since loops must not
  // throw.
  std::vector<Workspace> spaces;
  for (int i = 0; i < kernels::threads(); ++i) spaces.emplace_back(part(0).rows, part(0).cols, type);
  kernels::parallel_each(
      count, [&](int64_t i) { orthogonalize(part(i), spaces[static_cast<size_t>(kernels::thread_index())]); });
}

namespace {

// Of what is made orthogonal of an [m, n] matrix: the whole, or a block.
int64_t longer_side(int64_t m, int64_t n, int64_t block) {
  const int64_t longer = std::max(m, n), shorter = std::min(m, n);
  return block == 0 ? longer : std::max(std::min(longer, block), shorter);
}

class Muon : public UpdateRule {
 public:
  Muon(const ParameterInfo& parameter, const OptimizerSettings& settings)
      : parameter_(parameter),
        settings_(settings),
        momentum_(settings.moments, "momentum", false, Random(settings.seed, "moments:" + parameter.name).next()) {}

  std::vector<StateArray> arrays(const Shape& shape) const override { return momentum_.arrays(shape); }

  void apply(const Update& update) const override {
    Parameter& p = update.parameter;
    const Tensor momentum = taken(update, p.value.shape());
    const auto beta = static_cast<float>(settings_.numbers[muon_momentum]);
    if (update.mask) kernels::apply_mask(p.grad.view(), update.mask.data());
    kernels::scale(p.grad.view(), static_cast<float>(update.scale));
    kernels::scale(momentum.view(), beta);
    kernels::add(momentum.view(), p.grad.view());
    put_back(update, momentum);
    // Nesterov's: the gradient once more, before the momentum that it will
    // have.
    const Tensor step = momentum.clone();
    kernels::scale(step.view(), beta);
    kernels::add(step.view(), p.grad.view());
    int64_t begin = 0;
    for (const int64_t rows : parameter_.parts_of(step.dim(0))) {
      const Tensor part = step.rows(begin, rows);
      const auto block = static_cast<int64_t>(settings_.numbers[muon_block]);
      orthogonalize_blocks(part.view(), block, kernels::default_type());
      const auto longer = static_cast<double>(longer_side(rows, step.dim(1), block));
      kernels::scale(part.view(), static_cast<float>(-update.learning_rate * rms * std::sqrt(longer)));
      begin += rows;
    }
    if (p.decay) decay(p.value, step, update.learning_rate * settings_.weight_decay * update.decay);
    kernels::add(p.value.view(), step.view());
    if (update.mask) kernels::apply_mask(p.value.view(), update.mask.data());
  }

 private:
  static constexpr double rms = 0.2;  // of AdamW's updates, about
  static constexpr int64_t at_once = 64 * Moments::block;

  template <class F>
  static void in_parts(int64_t count, F&& f) {
    kernels::parallel_for((count + at_once - 1) / at_once, 1,
                          [&](int64_t begin, int64_t end) { f(begin * at_once, std::min(end * at_once, count)); });
  }

  Tensor taken(const Update& update, const Shape& shape) const {
    if (settings_.moments == MomentForm::f32) return update.state.at("momentum");
    const Tensor all = Tensor::empty(shape);
    in_parts(all.size(),
             [&](int64_t begin, int64_t end) { momentum_.load(update.state, begin, end, all.data<float>() + begin); });
    return all;
  }

  void put_back(const Update& update, const Tensor& momentum) const {
    if (settings_.moments == MomentForm::f32) return;
    in_parts(momentum.size(), [&](int64_t begin, int64_t end) {
      momentum_.store(update.state, begin, end, momentum.data<float>() + begin, update.step);
    });
  }

  // `step`: what is added to the value.
  void decay(const Tensor& value, const Tensor& step, double part) const {
    const auto kept = static_cast<float>(1 - part);
    if (!settings_.cautious_decay) return kernels::scale(value.view(), kept);
    float* const x = value.data<float>();
    const float* const by = step.data<float>();
    in_parts(value.size(), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) x[i] = x[i] * by[i] > 0 ? x[i] : x[i] * kept;
    });
  }

  ParameterInfo parameter_;
  OptimizerSettings settings_;
  Moments momentum_;
};

}  // namespace

std::shared_ptr<const UpdateRule> muon_rule(const ParameterInfo& parameter, const Config& config,
                                            const OptimizerSettings& settings) {
  const bool of_block = is_linear(parameter.role) && parameter.role != Role::head;
  if (!of_block) return adamw_rule(parameter, config, settings);
  return std::make_shared<Muon>(parameter, settings);
}

}  // namespace hone
