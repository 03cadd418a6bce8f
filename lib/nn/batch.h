// Which tokens a call of the model processes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/packed/packed.h"

namespace hone {

namespace ops {
struct RoutePlan;
}

// Rows of a span, counted from its first.
struct RowRange {
  int64_t first = 0, count = 0;

  bool operator==(const RowRange&) const = default;
};

// With whose bits the tokens of a span are read where there is a State.
enum class Phase : uint8_t {
  counted,  // a few tokens as steps, more as a prompt's
  step,     // each as alone in a call of its own
  prompt    // as in one call with the tokens before them, if `first` is a multiple of kernels::attention_lanes, or of
            // kernels::attention_block where layers have windows or choose blocks
};

// What products take the rows of such spans as.
constexpr kernels::RowsAs rows_as(Phase phase) {
  return phase == Phase::step     ? kernels::RowsAs::few
         : phase == Phase::prompt ? kernels::RowsAs::many
                                  : kernels::RowsAs::counted;
}

// Consecutive tokens of one sequence.
struct Span {
  int64_t sequence = 0;  // its place in the State, where there is one
  int64_t first = 0;     // position of the first of them
  int64_t count = 0;
  Phase phase = Phase::counted;
  // Rows that see each other whole, whichever comes first: an image. In order, and none in two ranges.
  std::vector<RowRange> together = {};
};

// Spans whose rows lie one after another. They may differ in length: the chunk of a prompt stands beside the next
// tokens of other sequences. Only attention, positions and what reads single rows look at spans; to all else a batch is
// rows.
class Batch {
 public:
  Batch() = default;
  explicit Batch(std::vector<Span> spans);  // each of at least one token
  // Some rows of another batch, which count from one on in their spans and keep the positions and kinds that they had.
  Batch(std::vector<Span> spans, const Batch& of, std::span<const int32_t> rows);
  // Sequences 0, 1, …, each of `length` tokens from position 0.
  static Batch whole(int64_t sequences, int64_t length);

  const std::vector<Span>& spans() const { return spans_; }
  int64_t rows() const { return static_cast<int64_t>(positions_.size()); }
  std::span<const int32_t> positions() const { return positions_; }  // of each row

  // Where rows of different kinds (0 text, then one for each encoder of the model) go through different weights: the
  // kind of each row, `count` of them in all. A batch of text alone needs none.
  void set_kinds(std::vector<int32_t> kinds, int64_t count);
  std::span<const int32_t> kinds() const { return kinds_; }  // none: all rows are text
  // The same as a plan for products: rows of one kind lie together. Null where there are none.
  const std::shared_ptr<const ops::RoutePlan>& by_kind() const { return by_kind_; }
  int64_t end() const { return end_; }  // of the spans: one more than their largest token

  // Neighbouring spans of one length and phase that see alike, which attention computes together.
  struct Group {
    std::span<const Span> spans;
    int64_t first_row = 0;
    int64_t count = 0;  // tokens of each
    Phase phase = Phase::counted;
  };
  std::vector<Group> groups() const;

 private:
  std::vector<Span> spans_;
  std::vector<int32_t> positions_, kinds_;
  int64_t kind_count_ = 0;
  std::shared_ptr<const ops::RoutePlan> by_kind_;
  int64_t end_ = 0;
};

}  // namespace hone
