#include "weights/computed_weight.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/packed/nearest.h"
#include "kernels/parallel.h"
#include "weights/packed_weight.h"

namespace hone {

DenseWeight& ComputedWeight::current() const {
  const uint64_t wanted = version() + 1;
  if (made_.load(std::memory_order_acquire) == wanted) return *values_;
  const std::lock_guard lock(mutex_);
  if (made_.load(std::memory_order_relaxed) != wanted) {
    const Tensor values = compute();
    if (values_) {
      values_->parameter()->value = values;
      ++values_->parameter()->version;
    } else {
      values_ = std::make_unique<DenseWeight>(values);
    }
    made_.store(wanted, std::memory_order_release);
  }
  return *values_;
}

StraightThroughWeight::StraightThroughWeight(std::shared_ptr<Weight> master, Round round,
                                             std::shared_ptr<const std::atomic<bool>> active)
    : ComputedWeight(master->rows(), master->cols()),
      master_(std::move(master)),
      round_(std::move(round)),
      active_(std::move(active)) {}

const Weight& StraightThroughWeight::used() const {
  if (active_->load(std::memory_order_relaxed)) return current();
  return *master_;
}

namespace {

int64_t width_of(const QuantizedMatrix& m) {
  return m.group ? m.group : std::max<int64_t>(m.cols, 1);
}

}  // namespace

ScaledWeight::ScaledWeight(QuantizedMatrix matrix)
    : ComputedWeight(matrix.rows, matrix.cols), start_(std::move(matrix)) {
  factors_.value = Tensor::empty(start_.scales.shape());
  std::ranges::fill(factors_.value.span<float>(), 1.0f);
}

QuantizedMatrix ScaledWeight::matrix() const {
  QuantizedMatrix now = start_;
  now.scales = Tensor::empty(start_.scales.shape());
  for (int64_t i = 0; i < now.scales.size(); ++i)
    now.scales.data<float>()[i] = to_float(to_bf16(start_.scales.data<float>()[i] * factors_.value.data<float>()[i]));
  return now;
}

void ScaledWeight::add_dw(kernels::ConstView dy, kernels::ConstView x) {
  if (!factors_.trainable) return;
  DenseWeight& values = current();
  values.add_dw(dy, x);
  const float* dw = values.parameter()->grad.data<float>();
  const kernels::ElementNumbers numbers(start_.element);
  const int8_t* q = start_.integers.data<int8_t>();
  float* d = gradient_to_add(factors_).data<float>();
  const int64_t width = width_of(start_), groups = group_count(start_.cols, start_.group);
  kernels::parallel_for(start_.rows, kernels::row_grain(2 * start_.cols), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t g = 0; g < groups; ++g) {
        float sum = 0;
        for (int64_t c = g * width; c < std::min(start_.cols, (g + 1) * width); ++c)
          sum += numbers[q[r * start_.cols + c]] * dw[r * start_.cols + c];
        d[r * groups + g] += start_.scales.data<float>()[r * groups + g] * sum;
      }
  });
  values.parameter()->has_grad = false;
  values.parameter()->grad = Tensor();  // the pool has it for the next weight
}

Encoded ScaledWeight::encode() const {
  return pack_integers(matrix())->encode();
}

std::string ScaledWeight::element() const {
  return std::string(kernels::info_of(start_.element).name);
}

int64_t ScaledWeight::nonzeros() const {
  return std::ranges::count_if(start_.integers.span<int8_t>(), [](int8_t q) { return q != 0; });
}

QuantizedMatrix unpack_integers(const Weight& packed) {
  const Encoded encoded = packed.encode();
  const auto element = kernels::find_element(encoded.element);
  const auto scales = encoded.arrays.find("scales");
  if (!element || !kernels::info_of(*element).scaled || scales == encoded.arrays.end())
    throw internal_error("a {} {} weight has no scales", encoded.form, encoded.element);
  const auto group = encoded.attributes.find("group");
  QuantizedMatrix m;
  m.rows = packed.rows();
  m.cols = packed.cols();
  m.group = group == encoded.attributes.end() ? 0 : group->second;
  m.element = *element;
  m.mask = packed.mask();
  const int64_t groups = group_count(m.cols, m.group), width = width_of(m);
  m.scales = Tensor::empty({m.rows, groups});
  m.integers = Tensor::empty({m.rows, m.cols}, DType::i8);
  const Tensor dense = packed.to_dense();
  const kernels::ElementNumbers numbers(m.element);
  const bf16* stored = scales->second.data<bf16>();  // [panels, groups, 64]
  for (int64_t r = 0; r < m.rows; ++r)
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t panel = r / kernels::panel_rows, row = r % kernels::panel_rows;
      const float scale = to_float(stored[(panel * groups + g) * kernels::panel_rows + row]);
      m.scales.data<float>()[r * groups + g] = scale;
      for (int64_t c = g * width; c < std::min(m.cols, (g + 1) * width); ++c)
        m.integers.data<int8_t>()[r * m.cols + c] =
            scale == 0 ? int8_t{0} : static_cast<int8_t>(numbers.nearest(dense.data<float>()[r * m.cols + c] / scale));
    }
  return m;
}

}  // namespace hone
