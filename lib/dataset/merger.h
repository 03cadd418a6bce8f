// Byte-pair merges of one word.
#pragma once

#include <algorithm>
#include <cstdint>
#include <queue>
#include <span>
#include <vector>

#include "dataset/pair_table.h"

namespace hone {

// Merges the tokens of one word in place, earliest merge first, leftmost first among equals. `merges` has the rank of
// each pair, the earliest lowest; what the pair becomes is the token made[rank], or without `made` the rank itself.
class Merger {
 public:
  explicit Merger(const PairTable& merges, std::span<const int32_t> made = {}) : merges_(merges), made_(made) {}

  void run(std::vector<int32_t>& ids) {
    if (ids.size() <= 48)
      run_short(ids);
    else
      run_long(ids);
  }

 private:
  int32_t token_of(int32_t rank) const { return made_.empty() ? rank : made_[static_cast<size_t>(rank)]; }

  // Looks at all neighbours for each merge: quickest for words of a few bytes.
  void run_short(std::vector<int32_t>& ids) {
    size_t n = ids.size();
    std::vector<int32_t>& merged = merged_;  // merged[i]: the rank of ids[i] and ids[i+1]
    merged.assign(n, PairTable::none);
    for (size_t i = 0; i + 1 < n; ++i) merged[i] = merges_.find(ids[i], ids[i + 1]);
    while (n > 1) {
      const size_t at = static_cast<size_t>(
          std::min_element(merged.begin(), merged.begin() + static_cast<ptrdiff_t>(n - 1)) - merged.begin());
      if (merged[at] == PairTable::none) break;
      ids[at] = token_of(merged[at]);
      for (size_t i = at + 1; i + 1 < n; ++i) {
        ids[i] = ids[i + 1];
        merged[i] = merged[i + 1];
      }
      --n;
      merged[at] = at + 1 < n ? merges_.find(ids[at], ids[at + 1]) : PairTable::none;
      if (at > 0) merged[at - 1] = merges_.find(ids[at - 1], ids[at]);
    }
    ids.resize(n);
  }

  // A heap of possible merges over a linked list: n log n for a piece of any length, which may be a whole file without
  // a space.
  void run_long(std::vector<int32_t>& ids) {
    const size_t n = ids.size();
    constexpr size_t end = SIZE_MAX;
    std::vector<size_t> next(n), previous(n);
    struct Candidate {
      int32_t merged;
      size_t at;
      int32_t left, right;
      bool operator<(const Candidate& other) const {  // std::priority_queue gives the largest first
        return merged != other.merged ? merged > other.merged : at > other.at;
      }
    };
    std::priority_queue<Candidate> heap;
    const auto offer = [&](size_t at) {
      if (at == end || next[at] == end) return;
      const int32_t merged = merges_.find(ids[at], ids[next[at]]);
      if (merged != PairTable::none) heap.push({merged, at, ids[at], ids[next[at]]});
    };
    for (size_t i = 0; i < n; ++i) {
      next[i] = i + 1 < n ? i + 1 : end;
      previous[i] = i ? i - 1 : end;
    }
    for (size_t i = 0; i < n; ++i) offer(i);
    constexpr int32_t gone = -1;
    while (!heap.empty()) {
      const Candidate best = heap.top();
      heap.pop();
      const size_t at = best.at;
      if (ids[at] != best.left || next[at] == end || ids[next[at]] != best.right)
        continue;  // a neighbour has changed since
      const size_t right = next[at];
      ids[at] = token_of(best.merged);
      ids[right] = gone;
      next[at] = next[right];
      if (next[at] != end) previous[next[at]] = at;
      offer(at);
      offer(previous[at]);
    }
    std::erase(ids, gone);
  }

  const PairTable& merges_;
  std::span<const int32_t> made_;
  std::vector<int32_t> merged_;
};

}  // namespace hone
