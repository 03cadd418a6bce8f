// Sequences that a model is fed with, piece by piece: generation, timing and scoring all go through here.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "model/transformer.h"

namespace hone {

// All calls run without a tape. Of a model in parts, every rank that has one makes the same calls; each begins by
// throwing Stopped on all of them where one has received a signal.
class Session {
 public:
  // Throws Error(usage) for a state that is larger than this machine's memory.
  Session(const Transformer& model, const StateShape& shape);

  // The next rows of one sequence.
  struct Piece {
    int64_t sequence = 0;
    Input input;                   // at least one row, each id below the model's vocabulary (Error(input))
    Phase phase = Phase::counted;  // the same of all pieces of a call
  };
  // Adds the pieces, of different sequences and any lengths; at most `chunk` rows of each go through the model at once,
  // or, where that would divide an image or sound, as many as Input::uncut() says. Returns the logits after the last
  // token of each, f32 [pieces, vocabulary]. Throws Error(usage) when the capacity or learned positions are overrun;
  // what went before then stays.
  Tensor feed(std::span<const Piece> pieces, int64_t chunk = 512);
  // The same for all sequences at once: `ids` [sequences, length], row after row.
  Tensor feed(std::span<const int32_t> ids, int64_t chunk = 512);
  // And the hidden states of every token instead, [sequences * length, dim].
  Tensor hidden(std::span<const int32_t> ids, int64_t chunk = 512);

  // The first `layers` blocks alone, for the next tokens of a session's only sequence: hidden states as if the model
  // ended there (Transformer::read()), [tokens, dim]. These tokens wait for the other blocks: the next call of hidden()
  // names them again, with any that follow, and runs for them only what is left. None may wait behind fewer layers.
  Tensor shallow(std::span<const int32_t> ids, int64_t layers);
  // The latest token on, from where it waits to behind the first `layers` blocks, where it waits again unless those
  // are all: its hidden state there, [1, dim]. Before it those go on that wait behind fewer, so that it sees of them
  // what it would see had nobody waited; how is Filling.
  Tensor deeper(int64_t layers);

  // Of tokens that wait while a later one goes on.
  enum class Filling {
    exact,      // they go through the blocks with it, all rows at once: nothing differs from tokens that never waited
    propagated  // blocks remember them as if their streams had passed by unchanged (Transformer::remember())
  };
  void set_filling(Filling filling) { filling_ = filling; }
  // As if the model had the first `layers` blocks alone, read there. Only before the first token.
  void end_behind(int64_t layers);

  // State::truncate(); what waits is forgotten.
  void truncate(int64_t sequence, int64_t tokens);
  void clear();  // forgets all tokens
  // Tokens that are through all layers; and those that have begun.
  int64_t length(int64_t sequence = 0) const { return state_.length(sequence, end_ - 1); }
  int64_t begun(int64_t sequence = 0) const { return state_.length(sequence, 0); }
  int64_t sequences() const { return state_.sequences(); }
  int64_t capacity() const { return state_.capacity(); }
  const State& state() const { return state_; }

  Trace trace;  // of the calls from now on

 private:
  void go_on() const;
  std::vector<Piece> whole(std::span<const int32_t> ids) const;
  // Calls take(piece, first of its tokens, hidden states of some more of them) chunk by chunk.
  template <class F>
  void run(std::span<const Piece> pieces, int64_t chunk, F&& take);

  // Tokens that have gone through the same number of blocks: streams of some rows each.
  struct Waiting {
    std::vector<Stream> streams;
    int64_t rows = 0;
    void add(Stream stream);
    Stream take();  // all rows as one stream
  };

  Tensor deepen(std::span<const int32_t> ids);
  Call call_for(int64_t layer, int64_t rows) const;  // the next rows of that layer
  // All that wait behind fewer than `layers` blocks on to there.
  void bring(int64_t layers);
  void step(Stream stream, int64_t rows, int64_t from, int64_t to);  // which end waiting

  const Transformer& model_;
  State state_;
  int64_t end_;                         // blocks of the model that are run
  std::map<int64_t, Waiting> waiting_;  // by the number of blocks behind them; earlier tokens are deeper
  Filling filling_ = Filling::exact;
};

}  // namespace hone
