// Which tokens a call of the model processes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace hone {

// Rows of a span, counted from its first.
struct RowRange {
  int64_t first = 0, count = 0;

  bool operator==(const RowRange&) const = default;
};

// Consecutive tokens of one sequence.
struct Span {
  int64_t sequence = 0;  // its place in the State, where there is one
  int64_t first = 0;     // position of the first of them
  int64_t count = 0;
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
  // Sequences 0, 1, …, each of `length` tokens from position 0.
  static Batch whole(int64_t sequences, int64_t length);

  const std::vector<Span>& spans() const { return spans_; }
  int64_t rows() const { return static_cast<int64_t>(positions_.size()); }
  std::span<const int32_t> positions() const { return positions_; }  // of each row
  int64_t end() const { return end_; }                               // one more than the largest position

  // Neighbouring spans of one length that see alike, which attention computes together.
  struct Group {
    std::span<const Span> spans;
    int64_t first_row = 0;
    int64_t count = 0;  // tokens of each
  };
  std::vector<Group> groups() const;

 private:
  std::vector<Span> spans_;
  std::vector<int32_t> positions_;
  int64_t end_ = 0;
};

}  // namespace hone
