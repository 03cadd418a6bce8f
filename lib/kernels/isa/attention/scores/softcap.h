// Scores between -C and C. Included only by isa/attention/scores.h.
#pragma once

#include "kernels/attention/score.h"
#include "kernels/isa/vector_math.h"

namespace hone::kernels::HONE_ISA {

struct SoftcapScore {
  float cap, inverse;

  explicit SoftcapScore(const ScoreRule& rule) : cap(rule.number), inverse(1 / rule.number) {}

  Vec value(Vec score) const {
    // tanh x = 1 - 2 / (e^2x + 1), which is 1 to the last bit from x = 10 on.
    const Vec most = broadcast(10.f), x = score * inverse, bounded = select(x > most, most, x);
    return cap - 2.f * cap / (exp2<5>(bounded * 2.88539008177792681f) + 1.f);  // 2 / ln 2
  }
  // Of value(), from what it gave.
  Vec slope(Vec value) const {
    const Vec t = value * inverse;
    return 1.f - t * t;
  }
};

}  // namespace hone::kernels::HONE_ISA
