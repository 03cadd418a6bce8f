// Inputs of attention tests: random q, k, v in one fused buffer, as a projection writes them, and comparisons with the
// reference.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/reference.h"

namespace hone::kernels::test {

// Numbers of either type behind one pointer.
class Buffer {
 public:
  Buffer(DType dtype, int64_t count)
      : dtype_(dtype), count_(count), bytes_(static_cast<size_t>(count) * size_of(dtype)) {}

  float get(int64_t i) const {
    return dtype_ == DType::f32 ? reinterpret_cast<const float*>(bytes_.data())[i]
                                : to_float(reinterpret_cast<const bf16*>(bytes_.data())[i]);
  }
  void set(int64_t i, float x) {
    if (dtype_ == DType::f32)
      reinterpret_cast<float*>(bytes_.data())[i] = x;
    else
      reinterpret_cast<bf16*>(bytes_.data())[i] = to_bf16(x);
  }
  void randomize(Random& random) {
    for (int64_t i = 0; i < count_; ++i) set(i, static_cast<float>(random.normal()));
  }
  void fill(float x) {
    for (int64_t i = 0; i < count_; ++i) set(i, x);
  }
  HeadRows rows(int64_t offset, int64_t batch_stride, int64_t row_stride, int64_t head_stride) {
    return {bytes_.data() + static_cast<size_t>(offset) * size_of(dtype_), dtype_, batch_stride, row_stride,
            head_stride};
  }
  DType dtype() const { return dtype_; }
  int64_t size() const { return count_; }
  bool operator==(const Buffer& other) const { return bytes_ == other.bytes_; }

 private:
  DType dtype_;
  int64_t count_;
  std::vector<std::byte> bytes_;
};

// The largest difference over the largest magnitude of `expected`, or over 1e-3 if that is larger.
inline double relative_error(const Buffer& actual, const Buffer& expected) {
  double difference = 0, magnitude = 1e-3;
  for (int64_t i = 0; i < expected.size(); ++i) {
    const double error = std::fabs(static_cast<double>(actual.get(i)) - expected.get(i));
    difference = std::isnan(error) ? INFINITY : std::max(difference, error);
    magnitude = std::max(magnitude, std::fabs(static_cast<double>(expected.get(i))));
  }
  return difference / magnitude;
}

inline double tolerance(DType dtype) {
  return dtype == DType::f32 ? 1e-5 : 1e-2;
}

// Self-attention from the first token on.
inline AttentionDims dims_of(int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t batch = 1) {
  AttentionDims dims;
  dims.batch = batch;
  dims.queries = dims.keys = tokens;
  dims.heads = heads;
  dims.kv_heads = kv_heads;
  dims.head_dim = head_dim;
  return dims;
}

// Dimensions with buffers for everything. qkv rows are [(heads + 2 * kv_heads) * head_dim] when queries and keys are
// the same tokens; the queries are the last rows otherwise.
struct Case {
  AttentionDims dims;
  Buffer qkv, out, d_out, d_qkv;
  std::vector<float> lse;

  Case(DType dtype, AttentionDims d, uint64_t seed = 1)
      : dims(d),
        qkv(dtype, d.batch * d.keys * row(d)),
        out(dtype, d.batch * d.queries * d.heads * d.head_dim),
        d_out(dtype, out.size()),
        d_qkv(dtype, qkv.size()),
        lse(static_cast<size_t>(d.batch * d.heads * d.queries)) {
    Random random(seed, "attention");
    qkv.randomize(random);
    d_out.randomize(random);
    if (d.scale == 1) dims.scale = 1 / std::sqrt(static_cast<float>(d.head_dim));
  }

  static int64_t row(const AttentionDims& d) { return (d.heads + 2 * d.kv_heads) * d.head_dim; }
  HeadRows part(Buffer& buffer, int64_t offset) const {
    return buffer.rows(offset, dims.keys * row(dims), row(dims), dims.head_dim);
  }
  HeadRows q(Buffer& b) const { return part(b, (dims.keys - dims.queries) * row(dims)); }
  HeadRows k(Buffer& b) const { return part(b, dims.heads * dims.head_dim); }
  HeadRows v(Buffer& b) const { return part(b, (dims.heads + dims.kv_heads) * dims.head_dim); }
  HeadRows outputs(Buffer& b) const {
    return b.rows(0, dims.queries * dims.heads * dims.head_dim, dims.heads * dims.head_dim, dims.head_dim);
  }

  void forward(const BlockPlan& plan) {
    out.fill(99);
    attention_forward(dims, q(qkv), k(qkv), v(qkv), outputs(out), lse.data(), plan);
  }
  void backward(const BlockPlan& plan) {
    d_qkv.fill(0);
    attention_backward(dims, q(qkv), k(qkv), v(qkv), outputs(out), lse.data(), outputs(d_out),
                       {q(d_qkv), k(d_qkv), v(d_qkv)}, plan);
  }
  void reference(const ReferenceMask& mask) {
    attention_forward_reference(dims, q(qkv), k(qkv), v(qkv), outputs(out), lse.data(), mask);
    attention_backward_reference(dims, q(qkv), k(qkv), v(qkv), outputs(d_out), q(d_qkv), k(d_qkv), v(d_qkv), mask);
  }
  PlanShape shape() const { return {dims.queries, dims.keys, dims.query_offset}; }
};

// Checks out, log_sum_exp and all gradients against a case that holds the reference's.
inline void check_equal(const Case& actual, const Case& expected) {
  const double allowed = tolerance(actual.out.dtype());
  CHECK(relative_error(actual.out, expected.out) < allowed);
  CHECK(relative_error(actual.d_qkv, expected.d_qkv) < allowed);
  double difference = 0;
  for (size_t i = 0; i < actual.lse.size(); ++i)
    difference = std::max(difference, std::fabs(static_cast<double>(actual.lse[i]) - expected.lse[i]));
  CHECK(difference < 1e-4);
}

}  // namespace hone::kernels::test
