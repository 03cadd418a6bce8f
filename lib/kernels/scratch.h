// Memory of one thread, kept for its next call: the steady state allocates nothing.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace hone::kernels {

// Whole pages, huge ones where it is large. It grows to the largest need; what it held before is lost when it grows.
class Scratch {
 public:
  void* at_least(size_t bytes) {
    if (bytes > size_) {
      data_.reset();
      size_ = 0;
      constexpr size_t small_page = 4096, huge_page = size_t{2} << 20;
      const size_t page = bytes >= huge_page ? huge_page : small_page, rounded = (bytes + page - 1) / page * page;
      data_.reset(std::aligned_alloc(page, rounded));
      if (!data_) throw std::bad_alloc();
      if (page == huge_page) madvise(data_.get(), rounded, MADV_HUGEPAGE);  // tiles of long sequences lie far apart
      size_ = rounded;
    }
    return data_.get();
  }

  // Room for `count` of T, uninitialized.
  template <class T>
  T* array(int64_t count) {
    return static_cast<T*>(at_least(static_cast<size_t>(count) * sizeof(T)));
  }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> data_;
  size_t size_ = 0;
};

}  // namespace hone::kernels
