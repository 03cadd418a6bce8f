// What the files of attention share: the table in use, and memory that threads keep.
#pragma once

#include <sys/mman.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/isa/attention_table.h"

namespace hone::kernels {

AttentionKernels attention_kernels_in_use();

// Memory that a thread keeps from call to call, in whole pages, huge ones where it is large: it grows to the largest need and is then allocated no more.
class PageScratch {
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
