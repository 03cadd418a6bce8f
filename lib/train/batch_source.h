// Where batches of training come from: windows of a text, or examples.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "dataset/batches.h"
#include "feed/ahead.h"
#include "ops/contrastive.h"

namespace hone {

// Sequences whose rows lie one after another, each as long as it is.
struct TrainingBatch {
  std::vector<Span> spans;
  JoinedInput rows;
  std::vector<int32_t> targets;  // [rows]; below 0: not scored
  std::vector<float> weights;    // [rows] of the loss; none: all 1
  std::vector<int64_t> starts;   // of windows: where each begins in its text; none: they are examples
  int64_t data_rows = 0;         // that hold data: all of them, unless something is padded
  // Rows of parts that belong together, pair by pair: each part as it is read without the rest of its sequence.
  std::vector<ops::PooledRows> left, right;
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // The next `sequences` of them.
  virtual void next(int64_t sequences, TrainingBatch& batch) = 0;
  virtual void skip(int64_t sequences) = 0;  // goes past the next so many, which other ranks compute
  // This is rank `rank` of so many: from the place where it begins or is restored to, it takes `sequences` of every
  // ranks * sequences by next() and goes past the others by skip(). What it goes past need not be made.
  virtual void share(int64_t /*sequences*/, int /*rank*/, int /*ranks*/) {}
  // Whether next() may throw on a rank where it does not on others.
  virtual bool fails_alone() const { return false; }
  virtual int64_t context() const = 0;  // rows of a sequence at most
  virtual void set_context(int64_t context) = 0;
  // The place in the data, exactly. restore() throws Error(input) if the value is not one of state()'s for this data.
  virtual nlohmann::json state() const = 0;
  virtual void restore(const nlohmann::json& state) = 0;
};

class TextBatches : public BatchSource {
 public:
  explicit TextBatches(BatchSampler sampler) : sampler_(std::move(sampler)) {}
  void next(int64_t sequences, TrainingBatch& batch) override;
  void skip(int64_t sequences) override { sampler_.skip(sequences); }  // reads nothing of the text
  int64_t context() const override { return sampler_.context(); }
  void set_context(int64_t context) override { sampler_.set_context(context); }
  nlohmann::json state() const override { return sampler_.state(); }
  void restore(const nlohmann::json& state) override { sampler_.restore(state); }

 private:
  BatchSampler sampler_;
  std::vector<int32_t> inputs_;
};

// Every pass visits each example once in a new order, augmented anew; a function of seed and place alone.
class ExampleBatches : public BatchSource {
 public:
  // `contrasted`: two encoders of the model, or none. Of an example with parts of both, the first of each are a pair. A
  // part that does not begin its sequence is there once more, alone.
  ExampleBatches(std::shared_ptr<SequenceReader> reader, int64_t context, uint64_t seed,
                 std::optional<std::pair<size_t, size_t>> contrasted = {});
  void next(int64_t sequences, TrainingBatch& batch) override;
  // Reads them where broken ones are skipped: only then it is known which are.
  void skip(int64_t sequences) override;
  void share(int64_t sequences, int rank, int ranks) override;
  bool fails_alone() const override { return turns_.ranks > 1; }
  int64_t context() const override { return context_; }
  void set_context(int64_t context) override;
  nlohmann::json state() const override;
  void restore(const nlohmann::json& state) override;

 private:
  // Of positions, counted from where this began.
  struct Turns {
    int64_t sequences = 1, rank = 0, ranks = 1;
    bool own(int64_t position) const { return position / sequences % ranks == rank; }
  };
  void place(int64_t position);  // where reading begins, once somebody wants a sequence
  int64_t position() const { return ahead_ ? ahead_->position() : begun_; }
  SequencesAhead& ahead();
  void add_pairs(const std::vector<Sequence>& all, TrainingBatch& batch) const;

  std::shared_ptr<SequenceReader> reader_;
  int64_t context_;
  uint64_t seed_;
  std::optional<std::pair<size_t, size_t>> contrasted_;
  Turns turns_;  // one rank's: all are made
  int64_t begun_ = 0;
  std::unique_ptr<SequencesAhead> ahead_;  // null: nothing was asked for since place()
};

}  // namespace hone
