// The modules of a block written out plainly, in double precision, from their
// parameters by name.
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "nn/block.h"
#include "support/check.h"

namespace hone::test {

// Rows of numbers.
struct Plain {
  int64_t rows = 0, cols = 0;
  std::vector<double> x;
  Plain(int64_t r, int64_t c) : rows(r), cols(c), x(static_cast<size_t>(r * c)) {}
  explicit Plain(const Tensor& t) : Plain(t.shape().size() > 1 ? t.dim(0) : 1, t.dim(-1)) {
    const Tensor values = t.to(DType::f32);
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(values.data<float>()[i]);
  }
  double& operator()(int64_t r, int64_t c) { return x[static_cast<size_t>(r * cols + c)]; }
  double operator()(int64_t r, int64_t c) const { return x[static_cast<size_t>(r * cols + c)]; }
};

// Every parameter of a module, set to random numbers; `module` has visit(Place, Visitor&), or is a layer or a norm.
class Parameters : public Visitor {
 public:
  template <class Module>
  static std::map<std::string, Plain> randomize(Module& module, const std::string& name, uint64_t seed) {
    Parameters all(seed);
    if constexpr (requires { module.visit(Place{name}, all); })
      module.visit(Place{name}, all);
    else if constexpr (requires { module.visit(Place{name}, NormOf::last, all); })
      module.visit(Place{name}, NormOf::last, all);
    else  // a single linear layer
      module.visit(Place{name}, Role::up, all);
    return all.found_;
  }
  void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) override {
    set(info.name, *weight->parameter(), 0.3f, 0);
  }
  void parameter(const ParameterInfo& info, Parameter& parameter) override {
    set(info.name, parameter, 0.3f, info.role == Role::gain ? 1.0f : 0.0f);
  }

 private:
  explicit Parameters(uint64_t seed) : seed_(seed) {}
  void set(const std::string& name, Parameter& parameter, float deviation, float mean) {
    parameter.value = random_tensor(parameter.value.shape(), ++seed_, deviation);
    for (float& x : parameter.value.span<float>()) x += mean;
    ++parameter.version;
    found_.emplace(name, Plain(parameter.value));
  }
  uint64_t seed_;
  std::map<std::string, Plain> found_;
};

using Named = std::map<std::string, Plain>;

inline Plain plain_add(Plain a, const Plain& b) {
  for (size_t i = 0; i < a.x.size(); ++i) a.x[i] += b.x[i];
  return a;
}

// x W^T + b; a bias that is not there is 0.
inline Plain plain_linear(const Named& p, const std::string& name, const Plain& x) {
  const Plain& w = p.at(name + ".weight");
  const auto bias = p.find(name + ".bias");
  Plain y(x.rows, w.rows);
  for (int64_t r = 0; r < y.rows; ++r)
    for (int64_t o = 0; o < y.cols; ++o) {
      y(r, o) = bias == p.end() ? 0 : bias->second(0, o);
      for (int64_t i = 0; i < w.cols; ++i) y(r, o) += x(r, i) * w(o, i);
    }
  return y;
}

inline Plain plain_norm(const Named& p, const std::string& name, const Plain& x, NormKind kind, double epsilon) {
  const auto bias = p.find(name + ".bias");
  Plain y = x;
  for (int64_t r = 0; r < x.rows; ++r) {
    double mean = 0, square = 0;
    for (int64_t c = 0; c < x.cols; ++c) mean += x(r, c) / static_cast<double>(x.cols);
    if (kind == norm_named("rms_norm")) mean = 0;
    for (int64_t c = 0; c < x.cols; ++c) square += (x(r, c) - mean) * (x(r, c) - mean) / static_cast<double>(x.cols);
    for (int64_t c = 0; c < x.cols; ++c)
      y(r, c) = (x(r, c) - mean) / std::sqrt(square + epsilon) * p.at(name + ".gain")(0, c) +
                (bias == p.end() ? 0 : bias->second(0, c));
  }
  return y;
}

// SwiGLU (gates first), or GELU in its tanh form or itself.
inline Plain plain_activation(ActivationKind kind, const Plain& x) {
  if (kind != activation_named("swiglu")) {
    Plain y = x;
    for (double& v : y.x)
      v *= 0.5 * (1 + (kind == activation_named("gelu") ? std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v))
                                                        : std::erf(v / std::sqrt(2.0))));
    return y;
  }
  Plain y(x.rows, x.cols / 2);
  for (int64_t r = 0; r < y.rows; ++r)
    for (int64_t c = 0; c < y.cols; ++c) y(r, c) = x(r, c) / (1 + std::exp(-x(r, c))) * x(r, y.cols + c);
  return y;
}

inline Plain plain_feed_forward(const Named& p, const std::string& name, const Plain& x, ActivationKind kind) {
  const std::string up = kind == activation_named("swiglu") ? ".gate_up" : ".up";
  return plain_linear(p, name + ".down", plain_activation(kind, plain_linear(p, name + up, x)));
}

// Causal attention of whole sequences of `length` tokens, without rotary
// positions.
inline Plain plain_attention(const Named& p, const std::string& name, const Plain& x, int64_t length, int64_t heads,
                             int64_t kv_heads, int64_t head_dim) {
  const Plain qkv = plain_linear(p, name + ".qkv", x);
  Plain out(x.rows, heads * head_dim);
  for (int64_t row = 0; row < x.rows; ++row)
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t first = row / length * length, kv = h / (heads / kv_heads);
      std::vector<double> share;
      double sum = 0;
      for (int64_t key = first; key <= row; ++key) {
        double score = 0;
        for (int64_t d = 0; d < head_dim; ++d)
          score += qkv(row, h * head_dim + d) * qkv(key, (heads + kv) * head_dim + d);
        share.push_back(std::exp(score / std::sqrt(static_cast<double>(head_dim))));
        sum += share.back();
      }
      for (int64_t key = first; key <= row; ++key)
        for (int64_t d = 0; d < head_dim; ++d)
          out(row, h * head_dim + d) +=
              share[static_cast<size_t>(key - first)] / sum * qkv(key, (heads + kv_heads + kv) * head_dim + d);
    }
  return plain_linear(p, name + ".output", out);
}

inline double plain_error(const Tensor& a, const Plain& b) {
  const Plain x(a);
  REQUIRE(x.x.size() == b.x.size());
  double difference = 0, largest = 1e-30;
  for (size_t i = 0; i < x.x.size(); ++i) {
    if (!std::isfinite(x.x[i])) return INFINITY;
    difference = std::max(difference, std::abs(x.x[i] - b.x[i]));
    largest = std::max(largest, std::abs(b.x[i]));
  }
  return difference / largest;
}

}  // namespace hone::test
