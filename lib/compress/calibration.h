// The walk through a model that compression takes: layers are measured, then changed, so that the next are measured
// behind what has become of them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "compress/statistics.h"
#include "dataset/corpus.h"
#include "feed/sequence.h"
#include "model/transformer.h"

namespace hone {

// Windows of calibration text, spread evenly over it.
struct CalibrationText {
  int64_t windows = 0, length = 0;
  std::vector<int32_t> ids;  // [windows, length]
  // In the place of those, where not empty: examples of text, images and sounds, each as long as it is. `windows` is
  // their number and `length` that of the longest. calibrate() and Reference take them; who wants windows of text
  // refuses them.
  std::vector<Sequence> examples = {};

  int64_t rows() const;  // of all windows
  Input input(int64_t window) const;
  // Of each of its rows the token that follows, or one below 0 where none does: behind the last of a window, and where
  // an image or sound goes on.
  std::vector<int32_t> targets(int64_t window) const;
  void require_text(const char* who) const;  // Error(usage)
};

// At most `count` examples, spread evenly.
CalibrationText calibration_examples(SequenceReader& reader, int64_t count);

// At most `windows` windows of `length` tokens that do not overlap. Throws Error(input) when the text is shorter than
// one.
CalibrationText calibration_text(const Corpus& text, int64_t windows, int64_t length);
// Of the windows that calibration_text() leaves out at most `count`, spread evenly; none where it takes all.
CalibrationText held_out_text(const Corpus& text, int64_t windows, int64_t length, int64_t count);

// f32 [rows, dim]: the residual and the branch, of which the next norm reads the sum.
Tensor sum_of_stream(const Stream& stream);

// A weight that will be changed, and what of its inputs has to be measured for that.
struct CalibrationTarget {
  std::string name;
  std::vector<StatisticKind> needs;
  bool dampens = false;  // whether it can do with fewer tokens than inputs
};

// What was measured of a target.
struct Measurement {
  const InputStatistics* inputs = nullptr;  // null: nothing, or too few tokens entered to tell anything
  std::optional<int64_t> tokens;            // that entered, where it was measured
  bool data_free = false;                   // it was measured, and too few entered
  bool dampened = false;                    // fewer than it has inputs, which is all that it gets
};

// Calls `change` once for each target (by its index), which may replace the target's weight. Blocks come in order, then
// the head, and last what no product enters (the embedding of an untied model). What a target needs is measured on
// `text` run through the model as `change` has made it so far, with activations in `type`; without text nothing is.
//
// Behind blocks: all layers of a block are measured together, then changed. Behind layers: within a block qkv, output,
// up (with its gate) and down are measured and changed one after the other; of a mixture all experts' up together and
// then their down, after the shared expert's.
//
// Either way that takes at most two forward passes of the text (a run that measures ends where nothing more is to be
// seen), and none behind the last target that needs anything. Behind layers it is little more than one: what enters the
// output and down projections is kept where all of it is no more than 1 GiB. Memory: that, the stream of all windows
// between two halves of a block, and the statistics of what is measured together.
//
// Throws, before any change: Error(input) for a token outside the vocabulary, Error(usage) where statistics exceed this
// machine's memory. When `change` throws, or a signal comes, what it has changed before stays so.
void calibrate(Transformer& model, std::span<const CalibrationTarget> targets, MeasuredBehind behind,
               const CalibrationText* text, DType type,
               const std::function<void(size_t target, const Measurement& measured)>& change,
               const std::function<void(int64_t done, int64_t all)>& progress = {});

}  // namespace hone
