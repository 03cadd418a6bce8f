// The pieces of a loop that threads share: each begins with its own and then takes what others have left.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace hone::kernels::detail {

class SharedLoop {
 public:
  static constexpr int64_t most_pieces = INT32_MAX;

  // Pieces 0 … pieces-1, of which each of `owners` has equally many that follow each other; one owner: threads take
  // them one by one, in their order. Nobody may be taking.
  void cut(int64_t pieces, int owners) {
    if (owners > room_) {
      ranges_ = std::make_unique<Range[]>(static_cast<size_t>(owners));
      room_ = owners;
    }
    owners_ = owners;
    for (int64_t o = 0; o < owners; ++o)
      ranges_[static_cast<size_t>(o)].ends.store(packed(pieces * o / owners, pieces * (o + 1) / owners),
                                                 std::memory_order_relaxed);
  }

  // A piece for thread 0, 1, …: the first of its own, or the last of another, who is far from it. False: none is left.
  bool take(int thread, int64_t& piece) {
    const int own = thread % owners_;
    if (take_first(ranges_[static_cast<size_t>(own)].ends, piece)) return true;
    for (int i = 1; i < owners_; ++i)
      if (take_last(ranges_[static_cast<size_t>((own + i) % owners_)].ends, piece)) return true;
    return false;
  }

 private:
  // What is left, [first, end): first in the lower half, end in the upper one. On a cache line of its own.
  struct alignas(64) Range {
    std::atomic<uint64_t> ends{0};
  };
  static constexpr uint64_t one_first = 1, one_last = uint64_t{1} << 32;

  static uint64_t packed(int64_t first, int64_t end) {
    return static_cast<uint64_t>(end) << 32 | static_cast<uint64_t>(first);
  }
  static int64_t first_of(uint64_t ends) { return static_cast<int64_t>(ends & 0xffffffff); }
  static int64_t end_of(uint64_t ends) { return static_cast<int64_t>(ends >> 32); }

  static bool take_first(std::atomic<uint64_t>& range, int64_t& piece) {
    uint64_t ends = range.load(std::memory_order_relaxed);
    while (first_of(ends) < end_of(ends))
      if (range.compare_exchange_weak(ends, ends + one_first, std::memory_order_relaxed)) {
        piece = first_of(ends);
        return true;
      }
    return false;
  }
  static bool take_last(std::atomic<uint64_t>& range, int64_t& piece) {
    uint64_t ends = range.load(std::memory_order_relaxed);
    while (first_of(ends) < end_of(ends))
      if (range.compare_exchange_weak(ends, ends - one_last, std::memory_order_relaxed)) {
        piece = end_of(ends) - 1;
        return true;
      }
    return false;
  }

  std::unique_ptr<Range[]> ranges_;
  int owners_ = 0, room_ = 0;
};

}  // namespace hone::kernels::detail
