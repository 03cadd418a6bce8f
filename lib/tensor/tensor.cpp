#include "tensor/tensor.h"

#include <algorithm>
#include <cstring>

#include "kernels/rows/elementwise.h"

namespace hone {

Tensor Tensor::over(std::shared_ptr<Storage> storage, size_t byte_offset, const Shape& shape, DType dtype) {
  Tensor t;
  t.size_ = elements(shape);
  assert(byte_offset + static_cast<size_t>(t.size_) * size_of(dtype) <= storage->bytes());
  t.storage_ = std::move(storage);
  t.offset_ = byte_offset;
  t.shape_ = shape;
  t.dtype_ = dtype;
  return t;
}

Tensor Tensor::empty(const Shape& shape, DType dtype) {
  const size_t bytes = static_cast<size_t>(elements(shape)) * size_of(dtype);
  const bool promise = shape.size() > 1 && ShapesOnly::active();
  return over(promise ? Storage::promised(bytes) : Storage::allocate(bytes), 0, shape, dtype);
}

Tensor Tensor::promised(const Shape& shape, DType dtype) {
  const size_t bytes = static_cast<size_t>(elements(shape)) * size_of(dtype);
  return over(Storage::promised(bytes), 0, shape, dtype);
}

Tensor Tensor::zeros(const Shape& shape, DType dtype) {
  Tensor t = empty(shape, dtype);
  kernels::zero(t.raw(), t.bytes());
  return t;
}

Tensor Tensor::of(const Shape& shape, std::initializer_list<float> values) {
  Tensor t = empty(shape);
  assert(static_cast<int64_t>(values.size()) == t.size());
  std::copy(values.begin(), values.end(), t.data<float>());
  return t;
}

kernels::View Tensor::view() const {
  const int64_t cols = shape_.empty() ? 1 : shape_.back();
  return {raw(), dtype_, cols ? size_ / cols : 0, cols, cols};
}

kernels::View Tensor::columns(int64_t begin, int64_t count) const {
  kernels::View v = view();
  assert(begin >= 0 && begin + count <= v.cols);
  v.data = raw() + static_cast<size_t>(begin) * size_of(dtype_);
  v.cols = count;
  return v;
}

Tensor Tensor::reshape(const Shape& shape) const {
  assert(elements(shape) == size_);
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

Tensor Tensor::rows(int64_t begin, int64_t count) const {
  assert(begin >= 0 && begin + count <= dim(0));
  Shape shape = shape_;
  shape[0] = count;
  const size_t row_bytes = bytes() / static_cast<size_t>(std::max<int64_t>(dim(0), 1));
  return over(storage_, offset_ + static_cast<size_t>(begin) * row_bytes, shape, dtype_);
}

Tensor Tensor::as_bytes() const {
  Tensor t = *this;
  t.shape_.push_back(static_cast<int64_t>(size_of(dtype_)));
  t.size_ = static_cast<int64_t>(bytes());
  t.dtype_ = DType::u8;
  return t;
}

Tensor Tensor::clone() const {
  Tensor t = empty(shape_, dtype_);
  if (size_) std::memcpy(t.raw(), raw(), bytes());
  return t;
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == dtype_) return *this;
  Tensor t = empty(shape_, dtype);
  kernels::convert(view(), t.view());
  return t;
}

}  // namespace hone
