// Address space that blocks are cut from. What is free lies together: free neighbours become one, so that what a call
// freed in many pieces serves the next one, whatever the sizes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

namespace hone {

constexpr size_t huge_page = size_t{2} << 20;

struct Extent {
  std::byte* data;
  size_t bytes;
  size_t range;             // the stretch of address space that it lies in
  Extent *below, *above;    // its neighbours there
  Extent *before, *behind;  // others of its class, while it is free
  bool free;
};

// Not safe for several threads: the pool has the lock. What it knows of blocks lies beside them, so that memory that is
// free is not touched, and sanitizers may say so (AddressSanitizer reports whoever does).
class Arena {
 public:
  Arena() = default;
  ~Arena();  // of all address space, whatever lies there
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // A block of `bytes`, a positive multiple of 64 (where all are multiples of 2 MiB, so are all addresses), in pages
  // that were used before where any extent of them is large enough. Throws std::bad_alloc.
  Extent* take(size_t bytes);
  const Extent& give(Extent* extent);  // the free extent that it is a part of now

  // Gives pages of free extents back to the system, the last first, until at most so many bytes are held or every page
  // has a block on it.
  void trim(size_t most_held);

  // Bytes of pages of 2 MiB on which a block lay since they came from the system: what the process has, if blocks were
  // written.
  size_t held() const { return held_; }
  // How often a block needed pages from the system.
  size_t growths() const { return growths_; }

 private:
  struct Range {
    std::byte* begin = nullptr;
    std::vector<uint8_t> held;  // of each page: whether a block lay on it
    Extent* last = nullptr;     // its highest extent; null: the range was given back
    std::byte* end() const { return begin + held.size() * huge_page; }
  };
  // Eight classes an octave of lines of 64 bytes, up to the largest address.
  static constexpr size_t steps = 8, classes = steps * 56;

  static size_t class_of(size_t bytes);
  Extent* found(size_t bytes) const;
  Extent* of_class(size_t index, size_t bytes) const;
  Extent* grown(size_t bytes);
  Extent* added(size_t range, std::byte* data, size_t bytes, Extent* below);
  void hold(const Extent& extent);
  void list(Extent* extent);
  void unlist(Extent* extent);
  void join_above(Extent* extent);
  void forget(Extent* extent);
  void let_go(Range& range, const Extent& extent, size_t most_held);
  void shorten(Range& range);

  std::array<Extent*, classes> first_{};
  std::array<uint64_t, classes / 64> some_{};  // a bit a class: whether it has an extent
  std::vector<Range> ranges_;
  std::deque<Extent> extents_;
  Extent* unused_ = nullptr;  // of those, by `behind`
  size_t held_ = 0, growths_ = 0;
};

}  // namespace hone
