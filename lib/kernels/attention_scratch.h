// What the files of attention share: the table in use, and memory that threads keep.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/isa/attention_table.h"

namespace hone::kernels {

AttentionKernels attention_kernels_in_use();

// Memory that a thread keeps from call to call: it grows to the largest need and is then allocated no more.
class Scratch {
 public:
  void* at_least(size_t bytes) {
    if (bytes > size_) {
      data_.reset();
      size_ = 0;
      const size_t rounded = (bytes + 4095) / 4096 * 4096;
      data_.reset(std::aligned_alloc(4096, rounded));
      if (!data_) throw std::bad_alloc();
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
