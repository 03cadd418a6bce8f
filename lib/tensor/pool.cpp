#include "tensor/pool.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "tensor/poison.h"
#include "tensor/tensor.h"

namespace hone {
namespace {

size_t block_bytes(size_t bytes) {
  const size_t unit = bytes >= huge_page ? huge_page : 64;
  return std::max<size_t>((bytes + unit - 1) / unit * unit, unit);
}

}  // namespace

double pool_block_bytes(double bytes) {
  constexpr double exact = 1e15;  // beyond, rounding is nothing
  return bytes < exact ? static_cast<double>(block_bytes(static_cast<size_t>(std::ceil(bytes)))) : bytes;
}

// Never destroyed: storage held by static objects may outlive any order of destruction.
Pool& Pool::shared() {
  static Pool* const instance = new Pool;
  return *instance;
}

Extent* Pool::take(size_t bytes) {
  if (bytes > SIZE_MAX - huge_page) throw std::bad_alloc();  // rounded up it would be next to nothing
  const size_t block = block_bytes(bytes);
  const std::lock_guard lock(mutex_);
  const size_t before = held();
  Extent* const extent = block < huge_page ? small_.take(block + red_zone) : large_.take(block);
  unpoison(extent->data, bytes);
  in_use_ += block;
  peak_ = std::max(peak_, in_use_);
  most_in_use_ = std::max(most_in_use_, in_use_);
  // Before anybody writes to the new pages.
  if (held() > before && held() > limit()) trim(limit());
  return extent;
}

void Pool::give(Extent* extent, size_t bytes) {
  const size_t block = block_bytes(bytes);
  const std::lock_guard lock(mutex_);
  const Extent& freed = (block < huge_page ? small_ : large_).give(extent);
  in_use_ -= block;
  // What was in use may have needed more pages than are to be kept.
  if (freed.bytes >= huge_page && held() > limit()) trim(limit());
}

// Half as much as was in use at most is for extents that were too small for what came, and for what only a page keeps.
size_t Pool::limit() const {
  return std::min(most_in_use_ + most_in_use_ / 2 + (size_t{64} << 20), most_held_);
}

void Pool::trim(size_t most_held) {
  large_.trim(most_held - std::min(most_held, small_.held()));
  small_.trim(most_held - std::min(most_held, large_.held()));
}

Pool::Bytes Pool::bytes() const {
  const std::lock_guard lock(mutex_);
  return {in_use_, peak_, held()};
}

size_t Pool::growths() const {
  const std::lock_guard lock(mutex_);
  return small_.growths() + large_.growths();
}

void Pool::limit_to(size_t most_held) {
  const std::lock_guard lock(mutex_);
  most_held_ = most_held;
  trim(limit());
}

void Pool::reset_peak() {
  const std::lock_guard lock(mutex_);
  peak_ = in_use_;
}

void Pool::release() {
  const std::lock_guard lock(mutex_);
  trim(0);
}

void release_pool() {
  Pool::shared().release();
}

size_t pool_kept_bytes() {
  const Pool::Bytes bytes = Pool::shared().bytes();
  return bytes.held - bytes.used;
}

size_t pool_used_bytes() {
  return Pool::shared().bytes().used;
}

size_t pool_peak_bytes() {
  return Pool::shared().bytes().peak;
}

void limit_pool(size_t bytes) {
  Pool::shared().limit_to(bytes);
}

void reset_pool_peak() {
  Pool::shared().reset_peak();
}

size_t pool_system_allocations() {
  return Pool::shared().growths();
}

}  // namespace hone
