#include "dataset/document_order.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/spelling.h"
#include "dataset/permutation.h"

namespace hone {

DocumentOrder::DocumentOrder(const Corpus& corpus)
    : size_(corpus.size()), starts_(corpus.document_starts()), order_(starts_.size()), places_(starts_) {
  if (documents() < 3)
    throw input_error(
        "{} has {}, which cannot be put in another order; documents are records of JSON lines, files, and "
        "what blank lines separate in plain text: shuffle windows instead",
        corpus.name(), counted(documents(), "document"));
  std::iota(order_.begin(), order_.end(), 0);
}

int64_t DocumentOrder::length(int64_t document) const {
  const auto next = static_cast<size_t>(document + 1);
  return (next < starts_.size() ? starts_[next] : size_) - starts_[next - 1];
}

void DocumentOrder::shuffle(uint64_t key) {
  const auto moved = static_cast<uint64_t>(documents() - 1);
  const Permutation permutation(moved, key);
  int64_t place = 0;
  for (uint64_t i = 0; i < moved; ++i) {
    order_[i] = static_cast<int64_t>(permutation(i));
    places_[i] = place;
    place += length(order_[i]);
  }
  places_[moved] = place;
}

void DocumentOrder::copy(const Corpus& corpus, int64_t begin, int64_t count, int32_t* out) const {
  auto at = static_cast<size_t>(std::ranges::upper_bound(places_, begin) - places_.begin()) - 1;
  for (; count > 0; ++at) {
    const int64_t from = begin - places_[at], there = std::min(count, length(order_[at]) - from);
    corpus.copy(starts_[static_cast<size_t>(order_[at])] + from, there, out);
    out += there;
    begin += there;
    count -= there;
  }
}

}  // namespace hone
