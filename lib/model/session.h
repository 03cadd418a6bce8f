// Sequences that a model is fed with, piece by piece: generation, timing and scoring all go through here.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/transformer.h"

namespace hone {

// All calls run without a tape.
class Session {
 public:
  // Throws Error(usage) for a state that is larger than this machine's memory.
  Session(const Transformer& model, const StateShape& shape);

  // The next tokens of one sequence.
  struct Piece {
    int64_t sequence = 0;
    std::span<const int32_t> ids;  // at least one, each below the model's vocabulary (Error(input))
    Phase phase = Phase::counted;  // the same of all pieces of a call
  };
  // Adds the pieces, of different sequences and any lengths; at most `chunk` tokens of each go through the model at
  // once. Returns the logits after the last token of each, f32 [pieces, vocabulary]. Throws Error(usage) when the
  // capacity or learned positions are overrun; what went before then stays.
  Tensor feed(std::span<const Piece> pieces, int64_t chunk = 512);
  // The same for all sequences at once: `ids` [sequences, length], row after row.
  Tensor feed(std::span<const int32_t> ids, int64_t chunk = 512);
  // And the hidden states of every token instead, [sequences * length, dim].
  Tensor hidden(std::span<const int32_t> ids, int64_t chunk = 512);

  // The first `layers` blocks alone, for the next tokens of a session's only sequence: hidden states as if the model
  // ended there (after its last norm), [tokens, dim]. These tokens wait for the other blocks: the next call of hidden()
  // names them again, with any that follow, and runs for them only what is left. Always the same `layers` while any
  // wait.
  Tensor shallow(std::span<const int32_t> ids, int64_t layers);

  // State::truncate(); what waits is forgotten.
  void truncate(int64_t sequence, int64_t tokens);
  void clear();  // forgets all tokens
  int64_t length(int64_t sequence = 0) const { return state_.length(sequence); }
  int64_t sequences() const { return state_.sequences(); }
  int64_t capacity() const { return state_.capacity(); }
  const State& state() const { return state_; }

  Trace trace;  // of the calls from now on

 private:
  std::vector<Piece> whole(std::span<const int32_t> ids) const;
  // Calls take(piece, first of its tokens, hidden states of some more of them) chunk by chunk.
  template <class F>
  void run(std::span<const Piece> pieces, int64_t chunk, F&& take);

  Tensor deepen(std::span<const int32_t> ids);

  const Transformer& model_;
  State state_;
  std::vector<Stream> waiting_;  // of tokens that have gone through the first `depth_` blocks
  int64_t waiting_rows_ = 0, depth_ = 0;
};

}  // namespace hone
