#include "tensor/pages.h"

#include <sys/mman.h>
#include <unistd.h>

namespace hone {

void let_go(const Tensor& tensor) {
  if (!tensor || tensor.writable() || tensor.promised() || tensor.bytes() == 0) return;
  // Storage that is neither owned nor promised is a mapped file. Whole pages alone: neighbours share the outer ones.
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(tensor.raw()), end = begin + tensor.bytes();
  const uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

}  // namespace hone
