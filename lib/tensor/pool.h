// The pool behind owned storage: the arena, shared by all threads and counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>

#include "tensor/arena.h"

namespace hone {

// Bytes that the pool takes for an array of so many: whole huge pages (2 MiB) from one on, whole lines of 64 below. In
// doubles, which hold any size that a user may type.
double pool_block_bytes(double bytes);

// Training asks for the same sizes at every step; where lengths vary (serving, evaluation, rows of experts), sizes do.
class Pool {
 public:
  static Pool& shared();

  // For `bytes`; their address is a multiple of 64. Throws std::bad_alloc.
  Extent* take(size_t bytes);
  // Back, with what it was taken for.
  void give(Extent* extent, size_t bytes);

  // What pool_used_bytes() and those beside it say (tensor/tensor.h).
  struct Bytes {
    size_t used, peak, held;
  };
  Bytes bytes() const;
  size_t growths() const;
  void limit_to(size_t most_held);
  void reset_peak();
  void release();

 private:
  size_t held() const { return small_.held() + large_.held(); }
  size_t limit() const;
  void trim(size_t most_held);

  mutable std::mutex mutex_;
  Arena small_, large_;  // blocks below a huge page, and whole ones: what is small would hold pages of what is large
  size_t most_held_ = SIZE_MAX;                     // set by a user
  size_t in_use_ = 0, most_in_use_ = 0, peak_ = 0;  // bytes asked for, in whole lines or pages
};

}  // namespace hone
