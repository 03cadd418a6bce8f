// The pool behind owned storage.
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#include "tensor/tensor.h"

namespace hone {
namespace {

constexpr size_t huge_page = size_t{2} << 20;

// Blocks by exact capacity: training asks for the same sizes at every step.
class Pool {
 public:
  std::byte* take(size_t capacity) {
    {
      const std::lock_guard lock(mutex_);
      auto found = free_.find(capacity);
      if (found != free_.end()) {
        std::byte* block = found->second;
        free_.erase(found);
        return block;
      }
    }
    ++system_allocations_;
    const size_t alignment = capacity >= huge_page ? huge_page : 64;
    void* block = std::aligned_alloc(alignment, capacity);
    if (!block) throw std::bad_alloc();
    if (capacity >= huge_page) madvise(block, capacity, MADV_HUGEPAGE);
    return static_cast<std::byte*>(block);
  }

  void give(std::byte* block, size_t capacity) {
    const std::lock_guard lock(mutex_);
    free_.emplace(capacity, block);
  }

  void release() {
    const std::lock_guard lock(mutex_);
    for (auto& [capacity, block] : free_) std::free(block);
    free_.clear();
  }

  size_t system_allocations() const { return system_allocations_; }

 private:
  std::mutex mutex_;
  std::multimap<size_t, std::byte*> free_;
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

}  // namespace

Storage::Storage(std::byte* data, size_t bytes, size_t capacity, std::shared_ptr<void> owner)
    : data_(data), bytes_(bytes), capacity_(capacity), owner_(std::move(owner)) {}

std::shared_ptr<Storage> Storage::allocate(size_t bytes) {
  const size_t capacity = round_up(bytes ? bytes : 1, bytes >= huge_page ? huge_page : 64);
  return std::shared_ptr<Storage>(new Storage(pool().take(capacity), bytes, capacity, nullptr));
}

std::shared_ptr<Storage> Storage::external(const void* data, size_t bytes, std::shared_ptr<void> owner) {
  auto* start = const_cast<std::byte*>(static_cast<const std::byte*>(data));
  return std::shared_ptr<Storage>(new Storage(start, bytes, bytes, std::move(owner)));
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

std::atomic<int> shapes_only{0};

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
  if (!owner_) pool().give(data_, capacity_);
}

void release_pool() {
  pool().release();
}

size_t pool_system_allocations() {
  return pool().system_allocations();
}

}  // namespace hone
