// The kinds of scores (kernels/attention/score.h): what the kernels do to a tile of them between the product and the
// softmax. Whether anything is done is asked once a tile. Included only by kernels/isa/attention/.
#pragma once

#include "kernels/attention/score.h"
#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {

// Row r has `columns` numbers from numbers[r * stride] on, a multiple of `lanes`; a score is a number times `unit`.
struct ScoreTile {
  float* numbers;
  int64_t rows, columns, stride;
  float unit;
};

// Each kind's file, scores/NAME.cpp, specializes it: with change() and a Score that has
//   value(score)   what a score becomes
//   slope(value)   the derivative of that by the score, from what value() gave
template <ScoreKind kind>
void change_kind(const ScoreRule& rule, const ScoreTile& tile, float* slopes);

template <class Score>
inline void change(const Score& score, const ScoreTile& t, float* slopes) {
  const float back = 1 / t.unit;
  for (int64_t r = 0; r < t.rows; ++r)
    for (int64_t c = r * t.stride; c < r * t.stride + t.columns; c += lanes) {
      const Vec value = score.value(load(t.numbers + c) * t.unit);
      store(t.numbers + c, value * back);
      if (slopes) store(slopes + c, score.slope(value));
    }
}

// Defined in scores.cpp, for the kinds of the table.
void change_kinds(const ScoreRule& rule, const ScoreTile& tile, float* slopes);

// `slopes`, where not null, lies as the numbers do and gets the derivative of what a score becomes by what it was.
inline void change_scores(const ScoreRule& rule, const ScoreTile& tile, float* slopes = nullptr) {
  if (rule.kind != ScoreKind::plain) change_kinds(rule, tile, slopes);
}

}  // namespace hone::kernels::HONE_ISA
