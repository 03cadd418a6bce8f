#include "ops/contrastive.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"

namespace hone::ops {
namespace {

// A batch has some dozens of pairs: sums are plain loops in f64, one after the other, the same with any threads.
using Numbers = std::vector<double>;

// Pooled rows before they have length 1: [parts, dim], and the lengths.
struct Pooled {
  Numbers mean, length, unit;
  int64_t parts = 0, dim = 0;

  const double* of(const Numbers& rows, int64_t i) const { return rows.data() + i * dim; }
};

Pooled pool(const Tensor& x, std::span<const PooledRows> parts) {
  const Tensor all = x.to(DType::f32);
  Pooled p;
  p.parts = static_cast<int64_t>(parts.size());
  p.dim = x.dim(1);
  p.mean.resize(static_cast<size_t>(p.parts * p.dim));
  p.length.resize(parts.size());
  for (int64_t i = 0; i < p.parts; ++i) {
    const PooledRows& rows = parts[static_cast<size_t>(i)];
    double* const mean = p.mean.data() + i * p.dim;
    for (int64_t r = rows.first; r < rows.first + rows.count; ++r)
      for (int64_t c = 0; c < p.dim; ++c)
        mean[c] += static_cast<double>(all.data<float>()[r * p.dim + c]) / static_cast<double>(rows.count);
    double square = 0;
    for (int64_t c = 0; c < p.dim; ++c) square += mean[c] * mean[c];
    p.length[static_cast<size_t>(i)] = std::max(std::sqrt(square), 1e-12);
  }
  p.unit = p.mean;
  for (int64_t i = 0; i < p.parts; ++i)
    for (int64_t c = 0; c < p.dim; ++c) p.unit[static_cast<size_t>(i * p.dim + c)] /= p.length[static_cast<size_t>(i)];
  return p;
}

// u v^T [n, n].
Numbers similarities(const Pooled& u, const Pooled& v) {
  Numbers s(static_cast<size_t>(u.parts * v.parts));
  for (int64_t i = 0; i < u.parts; ++i)
    for (int64_t j = 0; j < v.parts; ++j)
      for (int64_t c = 0; c < u.dim; ++c)
        s[static_cast<size_t>(i * v.parts + j)] += u.of(u.unit, i)[c] * v.of(v.unit, j)[c];
  return s;
}

// The loss of logits [n, n], and its slopes by each.
struct Sloped {
  double loss = 0;
  Numbers slopes;
};

// Of logits that lie `stride` apart, beginning at `first`: adds 1/2n of the cross-entropy of number `right`.
void add_cross_entropy(const Numbers& logits, int64_t n, int64_t first, int64_t stride, int64_t right, Sloped& to) {
  const auto at = [&](int64_t j) { return static_cast<size_t>(first + j * stride); };
  double most = logits[at(0)], sum = 0;
  for (int64_t j = 1; j < n; ++j) most = std::max(most, logits[at(j)]);
  for (int64_t j = 0; j < n; ++j) sum += std::exp(logits[at(j)] - most);
  const double part = 0.5 / static_cast<double>(n);
  to.loss += part * (most + std::log(sum) - logits[at(right)]);
  for (int64_t j = 0; j < n; ++j)
    to.slopes[at(j)] += part * (std::exp(logits[at(j)] - most) / sum - (j == right ? 1 : 0));
}

Sloped infonce(const Numbers& logits, int64_t n) {
  Sloped result{0, Numbers(logits.size())};
  for (int64_t i = 0; i < n; ++i) {
    add_cross_entropy(logits, n, i * n, 1, i, result);
    add_cross_entropy(logits, n, i, n, i, result);
  }
  return result;
}

Sloped siglip(const Numbers& logits, int64_t n) {
  Sloped result{0, Numbers(logits.size())};
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) {
      const auto at = static_cast<size_t>(i * n + j);
      const double sign = i == j ? 1 : -1, x = sign * logits[at], count = static_cast<double>(n);
      // log(1 + exp(-x)), and minus its slope
      result.loss += (std::max(-x, 0.0) + std::log1p(std::exp(-std::abs(x)))) / count;
      result.slopes[at] = -sign / (1 + std::exp(x)) / count;
    }
  return result;
}

struct Scale {
  double factor, offset;
  bool most;  // it would be larger, were it allowed to
};

Scale scale_of(const Parameter& scale, ContrastiveLoss loss) {
  const float* const v = scale.value.data<float>();
  const double factor = std::exp(static_cast<double>(v[0])), most = static_cast<double>(most_similarity_scale);
  return {std::min(factor, most), loss == ContrastiveLoss::siglip ? static_cast<double>(v[1]) : 0, factor > most};
}

// The gradient of x through unit rows `unit`, whose own is d [parts, dim].
void add_to_rows(const Pooled& p, const Numbers& d, std::span<const PooledRows> parts, const Tensor& dx) {
  for (int64_t i = 0; i < p.parts; ++i) {
    const PooledRows& rows = parts[static_cast<size_t>(i)];
    const double *const unit = p.of(p.unit, i), *const slope = p.of(d, i);
    double along = 0;
    for (int64_t c = 0; c < p.dim; ++c) along += slope[c] * unit[c];
    const double part = 1 / (p.length[static_cast<size_t>(i)] * static_cast<double>(rows.count));
    for (int64_t r = rows.first; r < rows.first + rows.count; ++r)
      for (int64_t c = 0; c < p.dim; ++c)
        dx.data<float>()[r * p.dim + c] += static_cast<float>((slope[c] - along * unit[c]) * part);
  }
}

}  // namespace

Tensor pooled(const Tensor& x, std::span<const PooledRows> parts) {
  const Pooled p = pool(x, parts);
  const Tensor unit = Tensor::empty({p.parts, p.dim});
  std::ranges::transform(p.unit, unit.data<float>(), [](double v) { return static_cast<float>(v); });
  return unit;
}

Tensor first_similarity_scale(ContrastiveLoss loss) {
  return loss == ContrastiveLoss::siglip ? Tensor::of({2}, {std::log(10.0f), -10.0f})
                                         : Tensor::of({2}, {-std::log(0.07f), 0.0f});
}

Var contrastive(const Var& x, std::span<const PooledRows> left, std::span<const PooledRows> right, Parameter& scale,
                ContrastiveLoss kind) {
  const auto n = static_cast<int64_t>(left.size());
  if (n < 2 || right.size() != left.size())
    throw internal_error("a contrastive loss of {} and {} parts", left.size(), right.size());
  const Pooled u = pool(x.value(), left), v = pool(x.value(), right);
  const Numbers s = similarities(u, v);
  const Scale by = scale_of(scale, kind);
  Numbers logits(s.size());
  std::ranges::transform(s, logits.begin(), [&](double similarity) { return by.factor * similarity + by.offset; });
  const Sloped sloped = kind == ContrastiveLoss::siglip ? siglip(logits, n) : infonce(logits, n);
  const Tensor y = Tensor::of({1}, {static_cast<float>(sloped.loss)});
  if (!Tape::recording()) return Var(y);
  const Var output(y, true);
  Tape::record([x, u, v, s, by, slopes = sloped.slopes, kind, output, &scale, n,
                lefts = std::vector<PooledRows>(left.begin(), left.end()),
                rights = std::vector<PooledRows>(right.begin(), right.end())] {
    const double seed = static_cast<double>(output.take_grad().data<float>()[0]);
    Numbers du(u.unit.size()), dv(v.unit.size());
    double d_log_scale = 0, d_offset = 0;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) {
        const auto at = static_cast<size_t>(i * n + j);
        const double d = seed * slopes[at], ds = d * by.factor;
        d_log_scale += ds * s[at];
        d_offset += d;
        for (int64_t c = 0; c < u.dim; ++c) {
          du[static_cast<size_t>(i * u.dim + c)] += ds * v.of(v.unit, j)[c];
          dv[static_cast<size_t>(j * u.dim + c)] += ds * u.of(u.unit, i)[c];
        }
      }
    if (scale.trainable) {
      float* const d = gradient_to_add(scale).data<float>();
      // At its most it may only fall.
      if (!by.most || d_log_scale > 0) d[0] += static_cast<float>(d_log_scale);
      if (kind == ContrastiveLoss::siglip) d[1] += static_cast<float>(d_offset);
    }
    if (!x.wants_grad()) return;
    const Tensor dx = Tensor::zeros(x.shape());
    add_to_rows(u, du, lefts, dx);
    add_to_rows(v, dv, rights, dx);
    x.add_grad(dx.to(x.value().dtype()));
  });
  return output;
}

}  // namespace hone::ops
