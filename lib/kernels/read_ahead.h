// What waiting threads fetch: the bytes that the loop to come will begin with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace hone::kernels {

// Bytes that a thread begins a loop with: the numbers of a matrix, and what it reads of others evenly beside them.
struct FirstBytes {
  const uint8_t* data = nullptr;
  int64_t bytes = 0;
  const uint8_t* beside = nullptr;
  int64_t beside_bytes = 0;
};

namespace detail {

// A thread's way through them, into its second-level cache: it goes on from one wait to the next.
class Fetching {
 public:
  static constexpr int64_t line = 64, most = 64 << 10;  // of the data

  void go_to(const FirstBytes& first) {
    if (first.data == first_.data) return;
    first_ = first;
    at_ = beside_at_ = 0;
  }
  // Begins to load a few more lines. False: there are none.
  bool fetch(int64_t lines) {
    const int64_t end = std::min({first_.bytes, most, at_ + lines * line});
    if (at_ >= end) return false;
    for (; at_ < end; at_ += line) __builtin_prefetch(first_.data + at_, 0, 2);
    for (const int64_t to = at_ * first_.beside_bytes / first_.bytes; beside_at_ < to; beside_at_ += line)
      __builtin_prefetch(first_.beside + beside_at_, 0, 2);
    return true;
  }

 private:
  FirstBytes first_;
  int64_t at_ = 0, beside_at_ = 0;
};

// Which loop followed which, since steps of a model repeat. The addresses may be of what is there no longer: to fetch
// that does nothing.
class Followers {
 public:
  static constexpr size_t most = 4096;

  // A loop begins, each of whose threads begins with one of these.
  void came(std::span<const FirstBytes> loop) {
    if (loop.empty()) return;
    if (latest_) latest_->assign(loop.begin(), loop.end());
    if (known_.size() >= most) known_.clear();
    latest_ = &known_[loop.front().data];
  }
  // What thread 0, 1, … began with in the loop that came after this one the last time; nothing, if there was none.
  FirstBytes next(int thread) const {
    const auto i = static_cast<size_t>(thread);
    return latest_ && i < latest_->size() ? (*latest_)[i] : FirstBytes();
  }

 private:
  std::unordered_map<const void*, std::vector<FirstBytes>> known_;  // by where the loop's first thread begins
  std::vector<FirstBytes>* latest_ = nullptr;
};

}  // namespace detail
}  // namespace hone::kernels
