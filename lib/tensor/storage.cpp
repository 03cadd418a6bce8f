// The pool behind owned storage.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#include "tensor/pool.h"
#include "tensor/tensor.h"

namespace hone {
namespace {

constexpr size_t huge_page = size_t{2} << 20;

// Blocks by capacity: training asks for the same sizes at every step. Where lengths vary (serving, evaluation, rows of
// experts), sizes do: a block that is a little larger serves, too. Of large ones, whose fresh pages take long to be
// cleared, so does one up to twice as large, as long as not too much of all is wasted; that does not count as used,
// since it depends on what was freed before. Blocks that were not asked for the longest go back to the system, so that
// what is kept follows what is needed. A block that is free holds what the pool knows of it, so that taking and giving
// ask for no memory: a token of a small model does both hundreds of times.
class Pool {
 public:
  struct Block {
    std::byte* data;
    size_t capacity;
  };

  // Of `asked` bytes or more.
  Block take(size_t asked) {
    const std::lock_guard lock(mutex_);
    if (Free* const found = fitting(asked)) {
      const size_t capacity = found->capacity;
      forget(found);
      use(asked, capacity);
      return {reinterpret_cast<std::byte*>(found), capacity};
    }
    while (oldest_ && all() + asked > limit()) drop(oldest_);
    ++system_allocations_;
    const size_t alignment = asked >= huge_page ? huge_page : 64;
    void* data = std::aligned_alloc(alignment, asked);
    if (!data) throw std::bad_alloc();
    if (asked >= huge_page) madvise(data, asked, MADV_HUGEPAGE);
    use(asked, asked);
    return {static_cast<std::byte*>(data), asked};
  }

  // Back, with what it was asked for.
  void give(Block block, size_t asked) {
    const std::lock_guard lock(mutex_);
    in_use_ -= asked;
    wasted_ -= block.capacity - asked;
    kept_ += block.capacity;
    if (free_.size() > most_sizes) std::erase_if(free_, [](const auto& size) { return !size.second; });
    Free*& first = free_[block.capacity];
    Free* const one = new (block.data) Free{block.capacity, first, nullptr, newest_, nullptr};
    if (first) first->before = one;
    first = one;
    (newest_ ? newest_->newer : oldest_) = one;
    newest_ = one;
    while (oldest_ && all() > limit()) drop(oldest_);
  }

  void release() {
    const std::lock_guard lock(mutex_);
    while (oldest_) drop(oldest_);
  }

  size_t system_allocations() const { return system_allocations_; }
  size_t kept() {
    const std::lock_guard lock(mutex_);
    return kept_;
  }
  size_t used() {
    const std::lock_guard lock(mutex_);
    return in_use_;
  }
  size_t peak() {
    const std::lock_guard lock(mutex_);
    return peak_;
  }
  void limit_to(size_t bytes) {
    const std::lock_guard lock(mutex_);
    most_kept_ = bytes;
    while (oldest_ && all() > limit()) drop(oldest_);
  }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    peak_ = in_use_;
  }

 private:
  // In the first bytes of a block that is free, between those of its capacity and those of its age.
  struct Free {
    size_t capacity;
    Free *behind, *before;
    Free *older, *newer;
  };
  static_assert(sizeof(Free) <= 64);          // the least capacity
  static constexpr size_t most_sizes = 4096;  // then those that no block has any more are forgotten
  static constexpr size_t most_wasted = size_t{64} << 20;

  // The smallest free block that serves; null: none. Where somebody set a limit, memory is not to be wasted.
  Free* fitting(size_t asked) {
    size_t largest = asked + asked / 8;
    if (asked >= huge_page && most_kept_ == SIZE_MAX && wasted_ < most_wasted)
      largest = std::max(largest, std::min(2 * asked, asked + most_wasted - wasted_));
    for (auto at = free_.lower_bound(asked); at != free_.end() && at->first <= largest; ++at)
      if (at->second) return at->second;
    return nullptr;
  }

  size_t all() const { return in_use_ + wasted_ + kept_; }
  // Of all blocks, used and free. In a step of training some sizes are used at one time and others at another: twice
  // what was in use at any time has room for both.
  size_t limit() const { return std::min(2 * most_in_use_ + (size_t{64} << 20), most_kept_); }

  void use(size_t asked, size_t capacity) {
    in_use_ += asked;
    wasted_ += capacity - asked;
    most_in_use_ = std::max(most_in_use_, in_use_);
    peak_ = std::max(peak_, in_use_);
  }
  void forget(Free* one) {
    kept_ -= one->capacity;
    (one->before ? one->before->behind : free_.find(one->capacity)->second) = one->behind;
    if (one->behind) one->behind->before = one->before;
    (one->older ? one->older->newer : oldest_) = one->newer;
    (one->newer ? one->newer->older : newest_) = one->older;
  }
  void drop(Free* one) {
    forget(one);
    std::free(one);
  }

  std::mutex mutex_;
  std::map<size_t, Free*> free_;  // by capacity: the one that was given last
  Free *oldest_ = nullptr, *newest_ = nullptr;
  size_t most_kept_ = SIZE_MAX;
  // Bytes: asked for by whom they are used, the most of those, what their blocks have beyond, of free blocks.
  size_t in_use_ = 0, most_in_use_ = 0, wasted_ = 0, kept_ = 0, peak_ = 0;
  std::atomic<size_t> system_allocations_{0};
};

// Never destroyed: storage held by static objects may outlive any order of destruction.
Pool& pool() {
  static Pool* instance = new Pool;
  return *instance;
}

size_t round_up(size_t bytes, size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

size_t block_bytes(size_t bytes) {
  return round_up(bytes ? bytes : 1, bytes >= huge_page ? huge_page : 64);
}

}  // namespace

double pool_block_bytes(double bytes) {
  constexpr double exact = 1e15;  // beyond, rounding is nothing
  return bytes < exact ? static_cast<double>(block_bytes(static_cast<size_t>(std::ceil(bytes)))) : bytes;
}

Storage::Storage(std::byte* data, size_t bytes, size_t capacity, std::shared_ptr<void> owner)
    : data_(data), bytes_(bytes), capacity_(capacity), owner_(std::move(owner)) {}

// Together with its count of references: one request to the system instead of two.
std::shared_ptr<Storage> Storage::make(std::byte* data, size_t bytes, size_t capacity, std::shared_ptr<void> owner) {
  struct Made : Storage {
    Made(std::byte* d, size_t b, size_t c, std::shared_ptr<void> o) : Storage(d, b, c, std::move(o)) {}
  };
  return std::make_shared<Made>(data, bytes, capacity, std::move(owner));
}

std::shared_ptr<Storage> Storage::allocate(size_t bytes) {
  const Pool::Block block = pool().take(block_bytes(bytes));
  return make(block.data, bytes, block.capacity, nullptr);
}

std::shared_ptr<Storage> Storage::external(const void* data, size_t bytes, std::shared_ptr<void> owner) {
  auto* start = const_cast<std::byte*>(static_cast<const std::byte*>(data));
  return make(start, bytes, bytes, std::move(owner));
}

std::shared_ptr<Storage> Storage::promised(size_t bytes) {
  // A page that nobody may touch, so that a mistake ends here and not in somebody's memory.
  static void* const page = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) throw std::bad_alloc();
  auto storage = external(page, bytes, std::shared_ptr<void>(page, [](void*) {}));
  storage->promised_ = true;
  return storage;
}

namespace {

thread_local int shapes_only = 0;

}  // namespace

ShapesOnly::ShapesOnly() {
  ++shapes_only;
}

ShapesOnly::~ShapesOnly() {
  --shapes_only;
}

bool ShapesOnly::active() {
  return shapes_only > 0;
}

Storage::~Storage() {
  if (!owner_) pool().give({data_, capacity_}, block_bytes(bytes_));
}

void release_pool() {
  pool().release();
}

size_t pool_kept_bytes() {
  return pool().kept();
}

size_t pool_used_bytes() {
  return pool().used();
}

size_t pool_peak_bytes() {
  return pool().peak();
}

void limit_pool(size_t bytes) {
  pool().limit_to(bytes);
}

void reset_pool_peak() {
  pool().reset_peak();
}

size_t pool_system_allocations() {
  return pool().system_allocations();
}

}  // namespace hone
