// Owned, mapped and promised storage.
#include <sys/mman.h>

#include <new>

#include "tensor/pool.h"
#include "tensor/tensor.h"

namespace hone {

Storage::Storage(std::byte* data, size_t bytes, Extent* block, std::shared_ptr<void> owner)
    : data_(data), bytes_(bytes), block_(block), owner_(std::move(owner)) {}

// Together with its count of references: one request to the system instead of two.
std::shared_ptr<Storage> Storage::make(std::byte* data, size_t bytes, Extent* block, std::shared_ptr<void> owner) {
  struct Made : Storage {
    Made(std::byte* d, size_t b, Extent* c, std::shared_ptr<void> o) : Storage(d, b, c, std::move(o)) {}
  };
  return std::make_shared<Made>(data, bytes, block, std::move(owner));
}

std::shared_ptr<Storage> Storage::allocate(size_t bytes) {
  Extent* const block = Pool::shared().take(bytes);
  return make(block->data, bytes, block, nullptr);
}

std::shared_ptr<Storage> Storage::external(const void* data, size_t bytes, std::shared_ptr<void> owner) {
  auto* start = const_cast<std::byte*>(static_cast<const std::byte*>(data));
  return make(start, bytes, nullptr, std::move(owner));
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
  if (block_) Pool::shared().give(block_, bytes_);
}

}  // namespace hone
