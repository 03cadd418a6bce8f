// What enters a model: ids of tokens, and beside them parts whose rows an encoder makes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/attention/types.h"
#include "nn/encoders/part.h"

namespace hone {

// A view, made of ids alone without a word: who knows nothing of images gives ids as ever. Features of parts stay apart
// from ids until Transformer::embed(), which runs the encoders of the kinds that are there, and no others.
struct Input {
  std::span<const int32_t> ids;      // one a row; those of rows that a part covers stand for nothing
  std::span<const MediaPart> parts;  // in the order of their rows, and none in another's
  // Rows of a sequence that has parts, here or elsewhere: where a model has weights by kind, they go through those of
  // their kinds. Their bits must not depend on whether a part is in the same call.
  bool by_kind = false;

  Input() = default;
  Input(std::span<const int32_t> all) : ids(all) {}     // NOLINT: ids are an input
  Input(std::span<int32_t> all) : ids(all) {}           // NOLINT
  Input(const std::vector<int32_t>& all) : ids(all) {}  // NOLINT
  Input(std::span<const int32_t> all, std::span<const MediaPart> with)
      : ids(all), parts(with), by_kind(!with.empty()) {}

  int64_t size() const { return static_cast<int64_t>(ids.size()); }
  // Whether a cut in front of `row` would divide a part, whose rows may see each other and are encoded together.
  bool cuts(int64_t row) const {
    return std::ranges::any_of(parts,
                               [&](const MediaPart& part) { return part.row < row && row < part.row + part.rows(); });
  }
  // `row`; where a cut in front of it would divide a part, the first multiple of a block of attention behind that (so
  // that no bit depends on where others are cut) that divides none. It may lie behind the end.
  int64_t uncut(int64_t row) const {
    constexpr int64_t block = kernels::attention_block;
    for (const MediaPart& part : parts)
      if (part.row < row && row < part.row + part.rows()) row = (part.row + part.rows() + block - 1) / block * block;
    return row;
  }
  // The last multiple of `unit` up to `row` that divides no part.
  int64_t uncut_before(int64_t row, int64_t unit) const {
    row = row / unit * unit;
    for (auto part = parts.rbegin(); part != parts.rend(); ++part)
      if (part->row < row && row < part->row + part->rows()) row = part->row / unit * unit;
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
    by_kind_ = by_kind_ || input.by_kind;
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
    by_kind_ = false;
  }
  Input input() const {
    Input all(ids_, parts_);
    all.by_kind = by_kind_;
    return all;
  }

 private:
  std::vector<int32_t> ids_;
  std::vector<MediaPart> parts_;
  bool by_kind_ = false;
};

}  // namespace hone
