// Attention with linear biases: the farther away a key is, the lower its score.
#include "kernels/isa/attention/scores.h"

namespace hone::kernels::HONE_ISA {
namespace {

// 2^(-8 (head + 1) / heads) of a power of two. Another number of heads has the slopes of the largest power of two below
// it, and then every second one of twice that power, from the first on (as in the code of the paper).
float alibi_slope(int64_t head, int64_t heads) {
  int64_t power = 1;
  while (2 * power <= heads) power *= 2;
  const int64_t place = head < power ? 2 * (head + 1) : 2 * (head - power) + 1;  // from 1 on, among 2 * power heads
  return __builtin_exp2f(-4.f * static_cast<float>(place) / static_cast<float>(power));
}

struct AlibiScore {
  float head_slope;

  AlibiScore(const ScoreRule& rule, const ScoreTile& t)
      : head_slope(alibi_slope(rule.first_head + t.head, rule.heads)) {}

  // Rows of media may see what follows: how far away it is counts, not on which side.
  Vec value(Vec score, Vec distance) const { return score - head_slope * max(distance, -distance); }
  Vec slope(Vec) const { return broadcast(1.f); }
};

}  // namespace

template <>
void change_kind<score_named("alibi")>(const ScoreRule& rule, const ScoreTile& t, float* slopes) {
  change(AlibiScore(rule, t), t, slopes);
}

}  // namespace hone::kernels::HONE_ISA
