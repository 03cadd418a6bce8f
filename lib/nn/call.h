// A call of the model: what is constant while it runs. What comes out beside values goes to a Trace, what is remembered
// from call to call to a State (nn/state.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/dtype.h"
#include "comm/communicator.h"
#include "nn/batch.h"
#include "nn/recompute.h"
#include "nn/routing.h"
#include "ops/activation.h"
#include "ops/linear.h"
#include "weights/weight.h"

namespace hone {

// Where in a layer noise is drawn: at what comes out of its halves, and at the gradients of what comes out of its
// matrices, of which a mixer has one in front and one behind.
enum class Site { mixer, feed_forward, router, skip, mixer_input, mixer_output, up, down };

// Random numbers as a function of where they are used: a block that runs again draws what it drew before.
struct Noise {
  uint64_t seed = 0;  // a new one a call
  float dropout = 0;

  uint64_t at_embedding() const;
  uint64_t at(int64_t layer, Site site) const;
};

// Sees the rows that enter linear layers: calibration.
class InputObserver {
 public:
  virtual ~InputObserver() = default;
  virtual void observe(const Weight& weight, kernels::ConstView x) = 0;
};

struct Stream;

// Sees the stream behind each layer, and may add terms to what training minimizes. Where a stretch runs again for the
// backward pass it is shown once more, and must add as many.
class StreamObserver {
 public:
  virtual ~StreamObserver() = default;
  virtual void behind(int64_t layer, Stream& stream) = 0;
};

// Is told how far a backward pass has come.
class BackwardObserver {
 public:
  virtual ~BackwardObserver() = default;
  // The gradients of layers from `layer` on are final: no step of theirs is left.
  virtual void done(int64_t layer) = 0;
};

// What attention did in the calls that were given this.
struct AttentionMeter {
  double seconds = 0;           // forward: choosing blocks, caches and rotary positions included, projections not
  double backward_seconds = 0;  // of the steps on a tape, and of what is computed again for them
  int64_t visible_pairs = 0;    // of queries and keys, over sequences, heads and layers; single queries do not count
  int64_t causal_pairs = 0;     // what full attention would have seen
  double fraction() const {
    return causal_pairs ? static_cast<double>(visible_pairs) / static_cast<double>(causal_pairs) : 1;
  }
};

// What went through one encoder (nn/encoders/).
struct EncoderLoad {
  int64_t calls = 0, parts = 0, rows = 0;
  double seconds = 0;  // forward
};

// Where a call reports to; each is added to where it is given, and must outlive the tape.
struct Trace {
  AttentionMeter* attention = nullptr;
  std::vector<LayerRouting>* routing = nullptr;  // by layer; a dense layer has no load
  InputObserver* inputs = nullptr;
  BackwardObserver* backward = nullptr;
  std::vector<EncoderLoad>* encoders = nullptr;  // an entry each; those that a batch has no part for are left alone
  ModelDepth* depth = nullptr;                   // by layer
};

// Made by Transformer::call().
struct Call {
  Batch batch;
  DType type = DType::f32;                     // of activations and products
  bool eight_bits = false;                     // of training: products of layers' matrices as ops::EightBits has them
  std::shared_ptr<const ops::RopeTable> rope;  // of every position of the batch; null without rotary positions
  Noise noise;
  RouterCall router;
  Trace trace;
  std::vector<StreamObserver*> streams;  // no part of the trace, since what they add comes out; they outlive the tape
  RecomputePlan recompute;               // what a tape keeps of the blocks
  bool again = false;  // runs for the backward pass, after a first run that has reported what there was
  // Of training (nn/skip.h): the probability that a sequence passes a layer by, by layer; none: no layer is passed by.
  std::vector<float> skip;
  // Of training: routers of depth let the best tokens of each whole sequence through, instead of those that their
  // predictors take for the best, and the predictors learn which those are.
  bool best_pass = false;
  std::vector<int64_t> exits;  // behind how many layers the stream is read, ascending: Transformer::Output::exits
  // That have the model together: what is divided asks them. Null: this one has it whole.
  std::shared_ptr<Communicator> ranks;
  // Of those: each runs this call at the same time with rows of its own, as in training. Otherwise all have the same
  // rows, and nothing is recorded.
  bool own_rows = false;
  bool unread = false;  // nobody reads the values of the branch that comes out: its product may be left out

  std::optional<ops::EightBits> eight_bits_at(int64_t layer, Site site) const {
    return eight_bits ? std::optional(ops::EightBits{noise.at(layer, site)}) : std::nullopt;
  }
};

}  // namespace hone
