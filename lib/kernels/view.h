// Views: raw rows of numbers with their dimensions. Kernels take these and know nothing of tensors or graphs.
#pragma once

#include <cassert>
#include <cstdint>

#include "base/dtype.h"

namespace hone::kernels {

// `rows` x `cols` elements; row i starts `i * stride` elements after `data`.
struct ConstView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0, cols = 0, stride = 0;

  // Always inlined, as is everything that the files compiled for several instruction sets share.
  template <class T>
  [[gnu::always_inline]] const T* row(int64_t i) const {
    assert(DTypeOf<T>::value == dtype);
    return static_cast<const T*>(data) + i * stride;
  }
};

struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0, cols = 0, stride = 0;

  [[gnu::always_inline]] operator ConstView() const { return {data, dtype, rows, cols, stride}; }

  template <class T>
  [[gnu::always_inline]] T* row(int64_t i) const {
    assert(DTypeOf<T>::value == dtype);
    return static_cast<T*>(data) + i * stride;
  }
};

inline View view(float* data, int64_t rows, int64_t cols) {
  return {data, DType::f32, rows, cols, cols};
}
inline View view(bf16* data, int64_t rows, int64_t cols) {
  return {data, DType::bf16, rows, cols, cols};
}
inline ConstView view(const float* data, int64_t rows, int64_t cols) {
  return {data, DType::f32, rows, cols, cols};
}
inline ConstView view(const bf16* data, int64_t rows, int64_t cols) {
  return {data, DType::bf16, rows, cols, cols};
}

// Rows, or columns, first … first + count - 1 of x.
[[gnu::always_inline]] inline View rows_of(View x, int64_t first, int64_t count) {
  x.data = static_cast<char*>(x.data) + first * x.stride * static_cast<int64_t>(size_of(x.dtype));
  x.rows = count;
  return x;
}
[[gnu::always_inline]] inline ConstView rows_of(ConstView x, int64_t first, int64_t count) {
  x.data = static_cast<const char*>(x.data) + first * x.stride * static_cast<int64_t>(size_of(x.dtype));
  x.rows = count;
  return x;
}
[[gnu::always_inline]] inline View columns_of(View x, int64_t first, int64_t count) {
  x.data = static_cast<char*>(x.data) + first * static_cast<int64_t>(size_of(x.dtype));
  x.cols = count;
  return x;
}
[[gnu::always_inline]] inline ConstView columns_of(ConstView x, int64_t first, int64_t count) {
  x.data = static_cast<const char*>(x.data) + first * static_cast<int64_t>(size_of(x.dtype));
  x.cols = count;
  return x;
}

// Calls f with a null pointer of the C++ type that `type` names, f32 or bf16: the one place where an activation's type
// is turned into code.
template <class F>
[[gnu::always_inline]] inline decltype(auto) with_float_type(DType type, F&& f) {
  assert(type == DType::f32 || type == DType::bf16);
  return type == DType::bf16 ? f(static_cast<bf16*>(nullptr)) : f(static_cast<float*>(nullptr));
}

}  // namespace hone::kernels
