// What enters a model: ids of tokens, and beside them parts whose rows an encoder makes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "nn/encoders/part.h"

namespace hone {

// A view, made of ids alone without a word: who knows nothing of images gives ids as ever. Features of parts stay apart
// from ids until Transformer::embed(), which runs the encoders of the kinds that are there, and no others.
struct Input {
  std::span<const int32_t> ids;      // one a row; those of rows that a part covers stand for nothing
  std::span<const MediaPart> parts;  // in the order of their rows, and none in another's

  Input() = default;
  Input(std::span<const int32_t> all) : ids(all) {}     // NOLINT: ids are an input
  Input(std::span<int32_t> all) : ids(all) {}           // NOLINT
  Input(const std::vector<int32_t>& all) : ids(all) {}  // NOLINT
  Input(std::span<const int32_t> all, std::span<const MediaPart> with) : ids(all), parts(with) {}

  int64_t size() const { return static_cast<int64_t>(ids.size()); }
  // `row`, or the end of the part that a cut in front of `row` would divide: rows that see each other stay together.
  int64_t uncut(int64_t row) const {
    for (const MediaPart& part : parts)
      if (part.row < row && row < part.row + part.rows()) return part.row + part.rows();
    return row;
  }
};

// Rows of several inputs, one behind the other.
class JoinedInput {
 public:
  // `count` rows from `first` on, which cut no part.
  void add(const Input& input, int64_t first, int64_t count) {
    const int64_t at = static_cast<int64_t>(ids_.size());
    const auto rows = input.ids.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    ids_.insert(ids_.end(), rows.begin(), rows.end());
    for (const MediaPart& part : input.parts)
      if (part.row >= first && part.row < first + count) {
        parts_.push_back(part);
        parts_.back().row += at - first;
      }
  }
  void add(const Input& input) { add(input, 0, input.size()); }
  void clear() {
    ids_.clear();
    parts_.clear();
  }
  Input input() const { return {ids_, parts_}; }

 private:
  std::vector<int32_t> ids_;
  std::vector<MediaPart> parts_;
};

}  // namespace hone
