#include <unordered_map>

#include "base/error.h"
#include "base/random.h"
#include "serve/drafts/kinds.h"

namespace hone {
namespace {

constexpr int64_t usual = 3;

class NgramDraft : public Drafter {
 public:
  explicit NgramDraft(int64_t n) : n_(n) {}

  std::vector<Drafted> propose(std::span<const int32_t> sequence, int64_t most) override {
    remember(sequence);
    const int64_t length = static_cast<int64_t>(sequence.size());
    std::vector<Drafted> drafted;
    if (length <= n_) return drafted;
    const auto found = ends_.find(key(sequence, length));
    if (found == ends_.end()) return drafted;
    // Behind the end of the text it goes on in what it has drafted: what repeats itself does so more than once.
    for (int64_t from = best_of(sequence, found->second); static_cast<int64_t>(drafted.size()) < most; ++from)
      drafted.push_back(certain(from < length ? sequence[static_cast<size_t>(from)]
                                              : drafted[static_cast<size_t>(from - length)].token));
    return drafted;
  }

  DraftCost cost() const override { return {}; }

 private:
  static constexpr size_t places_looked_at = 8;
  static constexpr int64_t longest_shared = 32;

  static Drafted certain(int32_t token) { return {token, Distribution::certain(token)}; }

  // Of the n_ tokens before `end`.
  uint64_t key(std::span<const int32_t> sequence, int64_t end) const {
    uint64_t hash = 0;
    for (int64_t i = end - n_; i < end; ++i)
      hash = mix64(hash ^ static_cast<uint64_t>(sequence[static_cast<size_t>(i)]));
    return hash;
  }

  // The ends of all grams but the last one, which has nothing behind it yet.
  void remember(std::span<const int32_t> sequence) {
    const int64_t length = static_cast<int64_t>(sequence.size());
    for (seen_ = std::max(seen_, n_); seen_ < length; ++seen_) ends_[key(sequence, seen_)].push_back(seen_);
  }

  // Among the latest places the one before which most is shared.
  int64_t best_of(std::span<const int32_t> sequence, const std::vector<int64_t>& places) const {
    const auto at = [&](int64_t i) { return sequence[static_cast<size_t>(i)]; };
    const int64_t length = static_cast<int64_t>(sequence.size());
    int64_t best = places.back(), most = -1;
    for (size_t i = 0; i < std::min(places.size(), places_looked_at); ++i) {
      const int64_t place = places[places.size() - 1 - i];
      int64_t shared = 0;
      while (shared < longest_shared && shared < place && at(place - 1 - shared) == at(length - 1 - shared)) ++shared;
      if (shared > most) most = shared, best = place;
    }
    return best;
  }

  int64_t n_, seen_ = 0;
  std::unordered_map<uint64_t, std::vector<int64_t>> ends_;
};

}  // namespace

void check_ngram_draft(const DraftSettings&, const std::vector<int64_t>& numbers, const Transformer&) {
  if (!numbers.empty() && numbers[0] > 64) throw usage_error("draft 'ngram:{}': at most 64 tokens", numbers[0]);
}

std::unique_ptr<Drafter> ngram_draft(DraftSource source) {
  return std::make_unique<NgramDraft>(source.numbers.empty() ? usual : source.numbers[0]);
}

}  // namespace hone
