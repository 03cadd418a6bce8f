// What a model remembers of sequences from call to call.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/dtype.h"
#include "kernels/attention/cache_code.h"
#include "kernels/attention/types.h"
#include "nn/batch.h"
#include "tensor/tensor.h"

namespace hone {

// Which page holds which tokens of which sequence, of all layers that keep every token: page i of a sequence has its
// tokens i * page_rows and on. Several sequences may share a page; who writes the table knows how many do.
struct PageTable {
  int64_t pages = 0, page_rows = 0, per_sequence = 0;
  std::vector<int32_t> of;  // [sequences, per_sequence]

  int32_t& at(int64_t sequence, int64_t index) { return of[static_cast<size_t>(sequence * per_sequence + index)]; }
};

struct StateShape {
  int64_t sequences = 1;
  int64_t capacity = 0;     // tokens of each
  DType type = DType::f32;  // of activations
  int64_t take_back = 0;    // tokens that can be taken back whatever the kind of layer; more where a layer keeps all
  kernels::CacheCode code = kernels::CacheCode::none;  // of keys and values; none: they have the type of activations
  // Room for this many pages in place of room for `sequences * capacity` tokens; 0: no pages. Of page_rows tokens each,
  // a multiple of kernels::attention_block. The State makes the table of them.
  int64_t pages = 0, page_rows = kernels::attention_block;
  std::shared_ptr<PageTable> table = {};
};

// One layer's part: keys and values, summaries, recurrent states. It does not know how many tokens it holds; callers
// do.
class LayerState {
 public:
  virtual ~LayerState() = default;
  virtual int64_t bytes() const = 0;
  // Of a sequence that has been `length` tokens long, the fewest that truncate() can leave, but for none at all.
  virtual int64_t earliest(int64_t sequence, int64_t length) const = 0;
  // Leaves the first `tokens` of the sequence's `length` tokens, as if no more had ever been seen: 0, or earliest() and
  // above.
  virtual void truncate(int64_t sequence, int64_t length, int64_t tokens) = 0;

  // Of what stands in pages: copies the first `rows` rows of one to another.
  virtual void copy_page(int32_t /*from*/, int32_t /*to*/, int64_t /*rows*/) {}
  // Whether something of a sequence stands beside pages: rings, summaries. keep() copies it for a sequence of `length`
  // tokens, and restore() makes it that of another one, whose pages hold the same tokens.
  virtual bool keeps() const { return false; }
  virtual std::vector<Tensor> keep(int64_t /*sequence*/, int64_t /*length*/) const { return {}; }
  virtual void restore(int64_t /*sequence*/, int64_t /*length*/, const std::vector<Tensor>& /*kept*/) {}
};

// Of a layer that remembers nothing.
class NoState : public LayerState {
 public:
  int64_t bytes() const override { return 0; }
  int64_t earliest(int64_t, int64_t) const override { return 0; }
  void truncate(int64_t, int64_t, int64_t) override {}
};

// All layers'. Made by Transformer::make_state().
class State {
 public:
  explicit State(const StateShape& shape);

  const StateShape& shape() const { return shape_; }
  int64_t sequences() const { return shape_.sequences; }
  int64_t capacity() const { return shape_.capacity; }
  // Tokens that all layers have seen, and that one has: the first layers may be ahead of the others.
  int64_t length(int64_t sequence) const { return lengths_[static_cast<size_t>(sequence)]; }
  int64_t length(int64_t sequence, int64_t layer) const {
    return by_layer_[static_cast<size_t>(layer)][static_cast<size_t>(sequence)];
  }
  LayerState* layer(int64_t i) const { return layers_[static_cast<size_t>(i)].get(); }
  int64_t bytes() const;

  void add_layer(std::unique_ptr<LayerState> layer);
  // Before a call of the layers from … to - 1: throws Error(usage) where a sequence would outgrow the capacity,
  // Error(internal) where a span does not begin where its sequence ends in one of them or a sequence has two.
  void require_room(const Batch& batch, int64_t from, int64_t to) const;
  void advance(const Batch& batch, int64_t from, int64_t to);  // after it: what they have stored counts from now on
  // Takes tokens back: the first `tokens` of the sequence stay, in every layer. Throws Error(usage) where a layer no
  // longer has what it would need (a ring): give a larger `take_back`, which counts from the longest that the sequence
  // has been, through all calls. Nothing is changed then.
  void truncate(int64_t sequence, int64_t tokens);

  // With pages: where the next tokens of a sequence go is written here before the call.
  PageTable& table() { return *shape_.table; }
  void copy_page(int32_t from, int32_t to, int64_t rows);
  bool keeps() const;  // any layer does
  // What all layers keep beside pages, of a sequence from whose end nothing was taken back; and one that begins with
  // `length` tokens, of which its pages hold what they have, and `kept` the rest.
  using Kept = std::vector<std::vector<Tensor>>;
  Kept keep(int64_t sequence) const;
  void begin(int64_t sequence, int64_t length, const Kept* kept);

 private:
  StateShape shape_;
  std::vector<std::unique_ptr<LayerState>> layers_;
  std::vector<int64_t> lengths_;                // of each sequence
  std::vector<std::vector<int64_t>> by_layer_;  // [layer][sequence]
  // The same: how far tokens have been stored since the sequence began. Those that were taken back have overwritten
  // what a ring had of earlier ones, whatever came after.
  std::vector<std::vector<int64_t>> stored_;
};

}  // namespace hone
