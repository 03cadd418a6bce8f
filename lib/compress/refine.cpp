#include "compress/refine.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/stop.h"
#include "kernels/gemm/gemm.h"
#include "kernels/packed/nearest.h"
#include "kernels/parallel.h"

namespace hone {
namespace {

// One row: its integers and scales, what they stand for, and half the error's negative gradient by the latter.
class Row {
 public:
  Row(QuantizedMatrix& matrix, const kernels::ElementNumbers& of_element, const float* curvature, int64_t r,
      float* gradient)
      : of_element_(of_element),
        c_(curvature),
        cols_(matrix.cols),
        width_(matrix.group ? matrix.group : matrix.cols),
        mask_(matrix.mask ? matrix.mask.row(r) : nullptr),
        q_(matrix.integers.data<int8_t>() + r * matrix.cols),
        scales_(matrix.scales.data<float>() + r * group_count(matrix.cols, matrix.group)),
        g_(gradient),
        numbers_(static_cast<size_t>(matrix.cols)) {
    for (int64_t j = 0; j < cols_; ++j) number(j) = of_element[q_[j]];
  }

  // How many integers changed.
  int64_t change_integers() {
    int64_t changed = 0;
    for (int64_t j = 0; j < cols_; ++j) {
      const float scale = scales_[j / width_];
      if (scale == 0 || (mask_ && !kernels::bit_at(mask_, j))) continue;
      const int best = of_element_.nearest(number(j) + g_[j] / (c_[j * cols_ + j] * scale));
      if (best == q_[j]) continue;
      move(j, (of_element_[best] - number(j)) * scale);
      q_[j] = static_cast<int8_t>(best);
      number(j) = of_element_[best];
      ++changed;
    }
    return changed;
  }

  void change_scales() {
    for (int64_t first = 0; first < cols_; first += width_) {
      const int64_t last = std::min(cols_, first + width_);
      double slope = 0, bend = 0;
      for (int64_t i = first; i < last; ++i) {
        if (q_[i] == 0) continue;
        double sum = 0;
        for (int64_t j = first; j < last; ++j) sum += static_cast<double>(c_[i * cols_ + j] * number(j));
        bend += sum * static_cast<double>(number(i));
        slope += static_cast<double>(g_[i]) * static_cast<double>(number(i));
      }
      float& scale = scales_[first / width_];
      if (!(bend > 0)) continue;
      const float next = to_float(to_bf16(scale + static_cast<float>(slope / bend)));
      const double step = static_cast<double>(next) - static_cast<double>(scale);
      // Rounding to bf16 may go farther than twice the way: then the error would grow.
      if (!std::isnormal(next) || step * (step * bend - 2 * slope) >= 0) continue;
      for (int64_t i = first; i < last; ++i)
        if (q_[i] != 0) move(i, static_cast<float>(step * static_cast<double>(number(i))));
      scale = next;
    }
  }

 private:
  void move(int64_t j, float by) {
    const float* c = c_ + j * cols_;
    for (int64_t i = 0; i < cols_; ++i) g_[i] -= by * c[i];
  }

  float& number(int64_t j) { return numbers_[static_cast<size_t>(j)]; }

  const kernels::ElementNumbers& of_element_;
  const float* c_;
  int64_t cols_, width_;
  const uint8_t* mask_;
  int8_t* q_;
  float *scales_, *g_;
  std::vector<float> numbers_;  // of q_
};

}  // namespace

void refine(QuantizedMatrix& matrix, const Tensor& weight, const Curvature& curvature, int most_sweeps) {
  const kernels::ElementNumbers numbers(matrix.element);
  Tensor gradient = Tensor::empty(weight.shape()), difference = dequantize(matrix);
  for (int64_t i = 0; i < weight.size(); ++i)
    difference.data<float>()[i] = weight.data<float>()[i] - difference.data<float>()[i];
  kernels::gemm(difference.view(), false, curvature.matrix.view(), false, gradient.view());
  kernels::parallel_each(matrix.rows, [&](int64_t r) {
    Row row(matrix, numbers, curvature.matrix.data<float>(), r, gradient.data<float>() + r * matrix.cols);
    for (int sweep = 0; sweep < most_sweeps && !stop_wanted(); ++sweep) {
      // Less than one integer in a hundred is not worth another look at all of them.
      const bool settled = row.change_integers() * 100 < matrix.cols;
      row.change_scales();
      if (settled) break;
    }
  });
  check_stop();
}

}  // namespace hone
