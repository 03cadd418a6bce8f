// Memory of one thread, kept for its next call: the steady state allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace hone::kernels {

class Scratch {
 public:
  // At least `bytes` bytes, aligned to 64; what they held before is lost when they grow.
  uint8_t* reserve(int64_t bytes) {
    if (bytes > bytes_) {
      data_.reset();
      data_.reset(static_cast<uint8_t*>(::operator new (static_cast<size_t>(bytes), std::align_val_t{64})));
      bytes_ = bytes;
    }
    return data_.get();
  }

 private:
  struct Free {
    void operator()(uint8_t* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  std::unique_ptr<uint8_t, Free> data_;
  int64_t bytes_ = 0;
};

}  // namespace hone::kernels
