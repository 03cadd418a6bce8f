// Tensors: a shape over storage that is owned (from a pool) or mapped from a file. Copies share the storage.
#pragma once

#include <cassert>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>

#include "base/dtype.h"
#include "kernels/view.h"
#include "tensor/shape.h"

namespace hone {

struct Extent;  // tensor/arena.h

// Bytes aligned to 64. Owned storage comes from a pool (tensor/pool.h) that keeps freed memory within bounds, so that a
// training step takes nothing new after the first; external storage (a mapped file) is kept alive by `owner`.
class Storage {
 public:
  static std::shared_ptr<Storage> allocate(size_t bytes);
  static std::shared_ptr<Storage> external(const void* data, size_t bytes, std::shared_ptr<void> owner);
  static std::shared_ptr<Storage> promised(size_t bytes);  // of a size, without memory: nothing may read or write it
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  bool writable() const { return !owner_; }
  bool promised() const { return promised_; }

 private:
  Storage(std::byte* data, size_t bytes, Extent* block, std::shared_ptr<void> owner);
  static std::shared_ptr<Storage> make(std::byte* data, size_t bytes, Extent* block, std::shared_ptr<void> owner);
  std::byte* data_;
  size_t bytes_;
  Extent* block_;  // of the pool; null for external and promised storage
  std::shared_ptr<void> owner_;
  bool promised_ = false;
};

// While one lives, Tensor::empty() of the same thread only promises the memory of tensors with several dimensions: to
// learn the shapes and the size of a model that may not fit. Vectors are real.
class ShapesOnly {
 public:
  ShapesOnly();
  ~ShapesOnly();
  ShapesOnly(const ShapesOnly&) = delete;
  ShapesOnly& operator=(const ShapesOnly&) = delete;
  static bool active();
};

// What the pool has from the system, in pages of 2 MiB, beside what is in use: both together are at most one and a half
// times what ever was in use at once, and 64 MiB, or else every page has something on it that is in use.
size_t pool_kept_bytes();
size_t pool_used_bytes();  // of owned storage, each rounded as pool_block_bytes() does
size_t pool_peak_bytes();  // the most of those since the process began or reset_pool_peak()
void reset_pool_peak();
// Pages without anything in use are kept only while all are within so many bytes.
void limit_pool(size_t bytes);
void release_pool();  // gives those pages back to the system
// How often storage needed pages from the system so far: constant in the steady state of a training run.
size_t pool_system_allocations();

class Tensor {
 public:
  Tensor() = default;
  static Tensor empty(const Shape& shape, DType dtype = DType::f32);
  static Tensor zeros(const Shape& shape, DType dtype = DType::f32);
  // A shape without memory, see Storage::promised().
  static Tensor promised(const Shape& shape, DType dtype = DType::f32);
  static Tensor of(const Shape& shape, std::initializer_list<float> values);
  static Tensor over(std::shared_ptr<Storage> storage, size_t byte_offset, const Shape& shape, DType dtype);

  explicit operator bool() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[static_cast<size_t>(i < 0 ? i + static_cast<int>(shape_.size()) : i)]; }
  int64_t size() const { return size_; }
  DType dtype() const { return dtype_; }
  size_t bytes() const { return static_cast<size_t>(size_) * size_of(dtype_); }
  bool writable() const { return storage_ && storage_->writable(); }
  bool promised() const { return storage_ && storage_->promised(); }
  bool alone() const { return storage_.use_count() == 1; }  // no other tensor has its storage

  template <class T>
  T* data() const {
    assert(DTypeOf<T>::value == dtype_);
    return reinterpret_cast<T*>(raw());
  }
  template <class T>
  std::span<T> span() const {
    return {data<T>(), static_cast<size_t>(size_)};
  }
  std::byte* raw() const { return storage_->data() + offset_; }

  // Rows are the last dimension: [a, b, c] is seen as (a*b) rows of c.
  kernels::View view() const;
  kernels::View columns(int64_t begin, int64_t count) const;  // of view()
  Tensor reshape(const Shape& shape) const;                   // same storage; the sizes must agree
  Tensor rows(int64_t begin, int64_t count) const;            // same storage; a slice of the first dimension
  Tensor as_bytes() const;                                    // same storage; u8, the bytes of an element last
  Tensor clone() const;
  Tensor to(DType dtype) const;  // converts f32 <-> bf16; shares the storage when nothing changes

 private:
  std::shared_ptr<Storage> storage_;
  size_t offset_ = 0;
  Shape shape_;
  int64_t size_ = 0;
  DType dtype_ = DType::f32;
};

}  // namespace hone
