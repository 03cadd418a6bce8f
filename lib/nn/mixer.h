// The half of a block that mixes tokens: attention, or what takes its place.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nn/blueprint.h"
#include "nn/call.h"
#include "nn/parameters.h"
#include "nn/state.h"

namespace hone {

// Arrays [rows, width] by their widths, beside the normalized row that comes in.
struct MixerArrays {
  std::vector<int64_t> kept;      // for the backward pass, in the compute type
  std::vector<int64_t> kept_f32;  // the same in f32
  // Of the backward pass: the gradients of what goes into the last product, and of what the first one gave.
  int64_t out = 0, into = 0;
};

class Mixer {
 public:
  virtual ~Mixer() = default;
  // x [rows, dim] -> [rows, dim]. `state` is what its make_state() made, or null: every span then stands for itself and
  // begins at position 0. With one, the batch's tokens follow what it holds, and it holds them afterwards.
  virtual Var forward(const Var& x, const Call& call, int64_t layer, LayerState* state) const = 0;
  // What later tokens will read of these, without what comes out: the layer is passed by. In place of forward().
  virtual void remember(const Var& x, const Call& call, int64_t layer, LayerState* state) const {
    forward(x, call, layer, state);
  }
  virtual std::unique_ptr<LayerState> make_state(const StateShape& shape) const = 0;
  // Takes over what may change in a model that exists: the kind of attention.
  // For kinds alone that share_parameters().
  virtual void configure(const LayerBlueprint& layer) = 0;
  virtual void visit(const Place& at, Visitor& visitor) = 0;
  // What its place in a block is called in the names of parameters; its norm's is that with "_norm" behind it.
  virtual const char* place() const { return "mixer"; }

  // Whether a token sees nothing behind itself, but for rows that a span says are together. What predicts the next
  // token of a sequence needs that of all layers (Transformer::require_causal()), and a state exists for no other
  // mixer.
  virtual bool causal() const { return true; }
  // Whether it can show rows of a span to each other whole, whichever comes first (Span::together).
  virtual bool sees_together() const { return false; }

  // Beside the linear layers, of the token at `position`: multiplications and additions, and bytes of state read.
  virtual double flops(int64_t position) const = 0;
  virtual double state_bytes_read(int64_t position, DType type, kernels::CacheCode code) const = 0;
  virtual double state_bytes(const StateShape& shape) const = 0;  // that make_state() would take

  // What a step of training holds of it.
  virtual MixerArrays training_arrays() const = 0;

  // The kind that the layer's blueprint asks for; of several ranks that divide its heads, the part of one.
  static std::unique_ptr<Mixer> make(const BlockBlueprint& blueprint, const LayerBlueprint& layer,
                                     const Share& share = {});
};

// Mixers go by the names that a layer's `attention` may have: "window:512:4", "conv:4". A row of the table in
// mixer.cpp.
//
// Whatever mixes has a layer's `heads`, of `head_dim` channels each, of which ranks and structured pruning take some. A
// mixer that does not attend shows them by Role::mixer_input, mixer_array and mixer_output (nn/parameters.h).
struct MixerFamily {
  std::vector<std::string> (*kinds)();     // each as it is written, with its numbers: "window:SIZE[:SINKS]"
  std::vector<std::string> (*examples)();  // a name of each kind, with small numbers
  // Throws Error(usage) where a name of these kinds makes no sense for sequences of `context` tokens.
  void (*check)(const std::string& name, int64_t context);
  std::unique_ptr<Mixer> (*make)(const BlockBlueprint& blueprint, const LayerBlueprint& layer, const Share& share);
  // Queries meet keys: there are heads of keys, norms of both, scores, and places that see each other both ways.
  bool attends = true;
  // Of two kinds of the family: a layer of one becomes one of the other as it is.
  bool (*shares_parameters)(const std::string& a, const std::string& b) = nullptr;  // null: all do
};

template <class Made>
std::unique_ptr<Mixer> make_mixer(const BlockBlueprint& blueprint, const LayerBlueprint& layer, const Share& share) {
  return std::make_unique<Made>(blueprint, layer, share);
}

// Of all families.
std::vector<std::string> mixer_kinds();
std::vector<std::string> mixer_examples();  // for tests of every row
// Throws Error(usage) as MixerFamily::check, and for a name of no kind; with context 0 only of what is wrong with the
// name itself.
void check_mixer(const std::string& name, int64_t context = 0);

// Throw Error(usage) for a name of no kind.
bool attends(const std::string& name);  // MixerFamily::attends
// Of the same family, and MixerFamily::shares_parameters.
bool share_parameters(const std::string& a, const std::string& b);

// "a,b" -> a, b, a, b, … for `layers` layers. Throws Error(usage) as check_mixer, and for more kinds than layers.
std::vector<std::string> mixer_by_layer(const std::string& kinds, size_t layers);
// The shortest list that mixer_by_layer makes these of.
std::string mixer_list(const std::vector<std::string>& by_layer);

}  // namespace hone
