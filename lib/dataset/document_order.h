// A corpus whose documents stand in another order at each pass.
#pragma once

#include <cstdint>
#include <vector>

#include "dataset/corpus.h"

namespace hone {

// The documents of Corpus::document_starts(), each with what stands behind it. The last one, behind which nothing does,
// stays the last: sizes do not change.
class DocumentOrder {
 public:
  // In their own order. Error(input) for a corpus of fewer than three, where nothing could change places.
  explicit DocumentOrder(const Corpus& corpus);

  int64_t documents() const { return static_cast<int64_t>(starts_.size()); }
  void shuffle(uint64_t key);  // an order that follows from the key alone
  // Tokens [begin, begin + count) of the corpus in this order, as Corpus::copy.
  void copy(const Corpus& corpus, int64_t begin, int64_t count, int32_t* out) const;

 private:
  int64_t length(int64_t document) const;

  int64_t size_;
  std::vector<int64_t> starts_;  // in the corpus
  std::vector<int64_t> order_;   // which document comes at each place
  std::vector<int64_t> places_;  // where that begins
};

}  // namespace hone
