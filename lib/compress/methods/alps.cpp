// ALPS (Meng et al., arXiv 2406.07831): which weights stay, and what they become, found together. The alternating
// direction method of multipliers goes back and forth between weights that make the least error in the outputs, however
// many there are, and the sparse ones nearest to them, and ties the two together ever more tightly. The mask it ends
// with gets the exact least squares.
#include <cmath>

#include "base/error.h"
#include "base/stop.h"
#include "compress/curvature.h"
#include "compress/least_squares.h"
#include "compress/methods/prune_method.h"
#include "kernels/gemm/gemm.h"
#include "kernels/parallel.h"
#include "kernels/rows/elementwise.h"
#include "kernels/solve/cholesky.h"

namespace hone {
namespace {

// The tie begins at a tenth of the curvature's mean diagonal and grows every third iteration, by more while the mask
// still changes much (section 3.2 there).
constexpr double first_tie = 0.1;
constexpr int iterations_a_tie = 3, most_iterations = 120;
double growth(double changed) {
  return changed > 0.1 ? 1.3 : changed > 0.005 ? 1.2 : 1.1;
}
// It ends once a tie changed no more than this part of the mask; the least squares behind it need no more.
constexpr double settled = 1e-4;

// The square root of this power of a column's mean square scales it, so that weights of strong inputs count more: 1 is
// Wanda's measure and the paper's, 0 that of magnitude. On small models, where magnitude prunes better than Wanda, 0
// leaves a little less loss than 1, and on large ones inputs differ by far more than there.
constexpr float input_power = 0.5f;

template <class F>
void each(const Tensor& like, F&& f) {
  kernels::parallel_for(like.size(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

class Admm {
 public:
  Admm(const WeightToPrune& what, const Curvature& curvature)
      : what_(what),
        cols_(what.weight.dim(1)),
        scale_(static_cast<size_t>(cols_)),
        curvature_(Tensor::empty({cols_, cols_})),
        target_(Tensor::empty(what.weight.shape())),
        free_(Tensor::empty(what.weight.shape())),
        dual_(Tensor::zeros(what.weight.shape())),
        sum_(Tensor::empty(what.weight.shape())),
        scores_(Tensor::empty(what.weight.shape())) {
    bring_to_scale(curvature.matrix.data<float>());
    each(free_, [&](int64_t i) { free_.data<float>()[i] = what.weight.data<float>()[i] * scale_of(i); });
    kernels::gemm(free_.view(), false, curvature_.view(), false, target_.view());
    project();
  }

  void run() {
    Bitmask before;
    const auto kept = static_cast<double>(mask_.count());
    for (int i = 0; i < most_iterations; ++i) {
      check_stop();
      if (i % iterations_a_tie == 0) {
        if (i > 0) {
          const double changed = static_cast<double>(count_differences(mask_, before));
          if (changed <= settled * kept) break;
          tie_ *= growth(changed / kept);
        }
        before = mask_;
        factor();
      }
      iterate();
    }
  }

  const Bitmask& mask() const { return mask_; }
  const Tensor& scores() const { return scores_; }  // squares of what was compared
  // In the scale of the weights; zero where pruned.
  Tensor weight() const {
    Tensor w = Tensor::empty(free_.shape());
    each(w, [&](int64_t i) { w.data<float>()[i] = sparse_.data<float>()[i] / scale_of(i); });
    return w;
  }

 private:
  float scale_of(int64_t i) const { return scale_[static_cast<size_t>(i % cols_)]; }

  // Columns by their mean squares, then all by the mean of the diagonal.
  void bring_to_scale(const float* c) {
    double mean = 0;
    for (int64_t j = 0; j < cols_; ++j) {
      float& scale = scale_[static_cast<size_t>(j)];
      scale = std::pow(c[j * cols_ + j], input_power / 2);
      mean += static_cast<double>(c[j * cols_ + j] / (scale * scale)) / static_cast<double>(cols_);
    }
    const float whole = static_cast<float>(std::sqrt(mean));
    for (float& scale : scale_) scale *= whole;
    each(curvature_,
         [&](int64_t i) { curvature_.data<float>()[i] = c[i] / (scale_of(i / cols_) * scale_of(i % cols_)); });
  }

  void factor() {
    inverse_ = curvature_.clone();
    for (int64_t j = 0; j < cols_; ++j) inverse_.data<float>()[j * cols_ + j] += static_cast<float>(tie_);
    if (!kernels::invert_positive(inverse_.view()))
      throw input_error("{}: what enters this layer is too alike to be told apart; give more calibration text",
                        what_.name);
  }

  // (C + tie)^-1 applied to target + tie sparse - dual; then the nearest sparse weights; then the dual, which adds up
  // what the two disagree by.
  void iterate() {
    const float tie = static_cast<float>(tie_);
    float *sum = sum_.data<float>(), *dual = dual_.data<float>();
    each(sum_, [&](int64_t i) { sum[i] = target_.data<float>()[i] + tie * sparse_.data<float>()[i] - dual[i]; });
    kernels::gemm(sum_.view(), false, inverse_.view(), false, free_.view());
    project();
    each(dual_, [&](int64_t i) { dual[i] += tie * (free_.data<float>()[i] - sparse_.data<float>()[i]); });
  }

  void project() {
    const float inverse_tie = static_cast<float>(1 / tie_);
    each(sum_, [&](int64_t i) {
      const float w = free_.data<float>()[i] + dual_.data<float>()[i] * inverse_tie;
      sum_.data<float>()[i] = w;
      scores_.data<float>()[i] = w * w;
    });
    mask_ = select_mask(scores_, what_.pattern, what_.sparsity, ComparisonGroup::layer, what_.name, what_.mask);
    sparse_ = masked(sum_, mask_);
  }

  const WeightToPrune& what_;
  int64_t cols_;
  double tie_ = first_tie;
  std::vector<float> scale_;     // of columns: what the method works on is weight * scale
  Tensor curvature_, inverse_;   // of scaled weights, its mean diagonal 1 | of it and the tie
  Tensor target_;                // the scaled weights times the curvature
  Tensor free_, sparse_, dual_;  // W, D and V of the paper
  Tensor sum_, scores_;
  Bitmask mask_;
};

PrunedWeight alps(const WeightToPrune& what) {
  const Curvature curvature = curvature_of(what.inputs, what.weight.dim(1), what.name, what.number);
  Admm admm(what, curvature);
  if (what.inputs) admm.run();  // without, all inputs are alike, and the weights' own size tells most
  return {least_squares(what.weight, admm.weight(), admm.mask(), curvature), admm.mask(), admm.scores()};
}

}  // namespace

PruneMethod alps_method() {
  return {.name = "alps",
          .summary = "mask and weights together, by least squares on what they do to outputs",
          .needs = {StatisticKind::of<GramMatrix>()},
          .behind = MeasuredBehind::layers,
          .run = alps,
          .dampens = true,
          .solves = true,
          .number = dampening_number};
}

}  // namespace hone
