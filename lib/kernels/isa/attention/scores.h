// The kinds of scores (kernels/attention/score.h): what the kernels do to a tile of them between the product and the
// softmax. Whether anything is done is asked once a tile. Included only by kernels/isa/attention/.
#pragma once

#include "kernels/isa/attention/table.h"
#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {

// Where the queries, or the keys, of a tile stand: the i-th at first + i, or at first + each[i]. Only differences mean
// anything, and those of the first `count`; past them a tile may have rows and columns that no one reads.
struct ScorePositions {
  int32_t first;
  const int32_t* each = nullptr;
  int64_t count = 0;  // of `each`

  int32_t operator[](int64_t i) const { return first + (!each ? static_cast<int32_t>(i) : i < count ? each[i] : 0); }
  IntVec from(int64_t i) const {
    IntVec v{};
    for (int l = 0; l < lanes; ++l) v[l] = (*this)[i + l];
    return v;
  }
  ScorePositions behind(int64_t n) const {
    return each ? ScorePositions{first, each + n, count - n} : ScorePositions{first + static_cast<int32_t>(n)};
  }
};
// Of the queries, or rows of keys, from `row` on.
inline ScorePositions query_positions(const AttentionArgs& args, int64_t row) {
  return {static_cast<int32_t>(args.dims.query_offset + row)};
}
inline ScorePositions key_positions(const AttentionArgs& args, int64_t row) {
  if (!args.key_positions) return {static_cast<int32_t>(row)};
  return {0, args.key_positions + row, args.dims.keys - row};
}

// Scores of one query head. Row r has `columns` numbers from numbers[r * stride] on, a multiple of `lanes`; a score is
// a number times `unit`.
struct ScoreTile {
  float* numbers;
  int64_t rows, columns, stride;
  float unit;
  int64_t head;  // of the call
  ScorePositions queries, keys;
  bool key_rows = true;  // rows are keys and columns queries, or the other way round
};

// Each kind's file, scores/NAME.cpp, specializes it: with change() and a Score that has
//   value(score, distance)   what a score becomes whose query stands `distance` tokens behind its key
//   slope(value)             the derivative of that by the score, from what value() gave
template <ScoreKind kind>
void change_kind(const ScoreRule& rule, const ScoreTile& t, float* slopes);

template <class Score>
inline void change(const Score& score, const ScoreTile& t, float* slopes) {
  const float back = 1 / t.unit;
  const ScorePositions down = t.key_rows ? t.keys : t.queries, across = t.key_rows ? t.queries : t.keys;
  for (int64_t c = 0; c < t.columns; c += lanes) {
    const IntVec at = across.from(c);
    for (int64_t r = 0; r < t.rows; ++r) {
      const IntVec distance = t.key_rows ? at - down[r] : down[r] - at;
      const int64_t i = r * t.stride + c;
      const Vec value = score.value(load(t.numbers + i) * t.unit, __builtin_convertvector(distance, Vec));
      store(t.numbers + i, value * back);
      if (slopes) store(slopes + i, score.slope(value));
    }
  }
}

// Defined in scores.cpp, for the kinds of the table.
void change_kinds(const ScoreRule& rule, const ScoreTile& t, float* slopes);

// `slopes`, where not null, lies as the numbers do and gets the derivative of what a score becomes by what it was.
inline void change_scores(const ScoreRule& rule, const ScoreTile& t, float* slopes = nullptr) {
  if (rule.kind != ScoreKind::plain) change_kinds(rule, t, slopes);
}

}  // namespace hone::kernels::HONE_ISA
