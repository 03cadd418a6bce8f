// Parts of a model that several ranks divide among them: some rows of each matrix, or some columns; or of many
// matrices, such as those of experts, some whole.
#pragma once

#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include "weights/weight.h"

namespace hone {

// What one rank has of a matrix. A vector is a matrix of one column.
struct RankPart {
  enum class Of { whole, rows, columns, nothing };
  Of of = Of::whole;
  int index = 0, count = 1;
  // Rows (columns) of this part, one number for each stretch of the whole that is divided for itself, as queries, keys
  // and values in one matrix are.
  std::vector<int64_t> stretches = {};
  int holder = -1;  // the one rank that has it whole, where the others have nothing of it; -1: each has some

  bool divided() const { return of == Of::rows || of == Of::columns; }
  bool here() const { return of != Of::nothing; }            // elsewhere its values are promised
  bool differs() const { return divided() || holder >= 0; }  // from rank to rank
  int first() const { return holder < 0 ? 0 : holder; }      // rank that has some of it
  RankPart of_rank(int rank) const {
    RankPart other = *this;
    other.index = rank;
    return other;
  }
};

// Which of how many equal parts a rank has of what is divided.
struct Share {
  int index = 0, count = 1;
  int64_t of(int64_t whole) const { return whole / count; }
  int64_t first(int64_t whole) const { return index * of(whole); }
  // Of thing `i` of so many, of which each rank has some whole, in their order. Of one rank it is whole.
  RankPart thing(int64_t i, int64_t things) const;
  // Of a matrix of so many rows or columns, by stretches. Of one rank it is whole.
  RankPart rows(std::initializer_list<int64_t> whole) const { return part(RankPart::Of::rows, whole); }
  RankPart columns(std::initializer_list<int64_t> whole) const { return part(RankPart::Of::columns, whole); }

 private:
  RankPart part(RankPart::Of of, std::initializer_list<int64_t> whole) const;
};

// What modules ask for what a rank has of them. At most one is divided (model/division.h).
struct Shares {
  Share matrices;  // of heads, widths and the vocabulary
  Share experts;
};

Shape whole_shape(const RankPart& part, Shape shape);  // of which `shape` is the part's
Shape part_shape(const RankPart& part, Shape whole);

// The part's elements of a whole array of any type, copied (promised where there are none); and back into it.
Tensor take_part(const Tensor& whole, const RankPart& part);
void put_part(const Tensor& elements, const RankPart& part, const Tensor& whole);
Bitmask take_part(const Bitmask& whole, const RankPart& part);  // an empty one stays empty
void put_part(const Bitmask& bits, const RankPart& part, const Bitmask& whole);

// Calls f(elements, taken) for stretches of the whole's elements in their order: where in the part they are, or -1.
template <class F>
void for_each_stretch(const RankPart& part, const Shape& whole, F&& f);

// The part of a weight in its own form. Error(usage) naming `where` for columns that scales' groups do not divide into.
std::shared_ptr<Weight> part_of(const std::shared_ptr<Weight>& whole, const RankPart& part, const std::string& where);

// ----

struct PartRange {
  int64_t whole, part, count;  // first row (column) in both
};
std::vector<PartRange> ranges_of(const RankPart& part);

template <class F>
void for_each_stretch(const RankPart& part, const Shape& whole, F&& f) {
  const int64_t all = elements(whole);
  if (!part.divided()) return f(all, int64_t{0});
  const bool rows = part.of == RankPart::Of::rows;
  const int64_t cols = whole.size() > 1 ? whole[1] : 1;
  const std::vector<PartRange> ranges = ranges_of(part);
  int64_t width = 0, done = 0;  // of a part's row; elements seen
  for (const PartRange& range : ranges) width += range.count;
  for (int64_t r = 0; r < (rows ? 1 : whole[0]); ++r) {
    const int64_t unit = rows ? cols : 1, row = rows ? 0 : r * cols;
    for (const PartRange& range : ranges) {
      const int64_t begin = row + range.whole * unit;
      if (begin > done) f(begin - done, int64_t{-1});
      f(range.count * unit, (rows ? 0 : r * width) + range.part * unit);
      done = begin + range.count * unit;
    }
  }
  if (all > done) f(all - done, int64_t{-1});
}

}  // namespace hone
