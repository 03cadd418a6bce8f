// Batches for training: windows of a corpus in a shuffled order that costs no memory and can be continued from a few
// numbers.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <vector>

#include "dataset/document_order.h"
#include "dataset/permutation.h"

namespace hone {

// What changes its order at each pass over a text.
enum class Shuffle {
  windows,    // cut from the text as it stands
  documents,  // the documents of the text first, and then the windows cut from that (dataset/document_order.h)
};

// Each pass over the corpus visits every one of its non-overlapping windows once, in a new order; the first window of a
// pass begins at a random place in [0, context), so that the cuts fall elsewhere each time.
class BatchSampler {
 public:
  // Error(input) if no window fits, or as DocumentOrder.
  BatchSampler(Corpus corpus, int64_t context, uint64_t seed, Shuffle shuffle = Shuffle::windows);

  // Fills rows [batch, context] with the batch = inputs.size() / context() next windows; targets are the inputs one
  // token later. Both spans have the same size, a multiple of context().
  void next(std::span<int32_t> inputs, std::span<int32_t> targets);

  // Goes past the next `windows` without reading them.
  void skip(int64_t windows);

  // Where in the corpus the windows that next() gave last begin.
  std::span<const int64_t> starts() const { return starts_; }

  // Windows are of this length from now on (a length curriculum). A change begins a new pass. Error(input) if no window
  // fits.
  void set_context(int64_t context);
  int64_t context() const { return context_; }

  // The position, exactly. restore() throws Error(input) if the value is not one of state()'s for this corpus.
  nlohmann::json state() const;
  void restore(const nlohmann::json& state);

 private:
  void begin_pass();
  int64_t draw();  // where the next window begins
  int64_t windows() const;
  void copy(int64_t begin, int32_t* out) const;  // context() tokens

  Corpus corpus_;
  int64_t context_;
  uint64_t seed_;
  uint64_t pass_ = 0;     // passes begun before this one
  int64_t position_ = 0;  // windows of this pass that are done
  int64_t drawn_ = 0;     // tokens
  int64_t phase_ = 0;     // where the first window of this pass begins; follows from seed, pass and context
  Permutation order_;
  std::optional<DocumentOrder> documents_;  // of this pass; none: as they stand
  std::vector<int64_t> starts_;
};

}  // namespace hone
