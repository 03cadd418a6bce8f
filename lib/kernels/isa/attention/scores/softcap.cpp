// Scores between -C and C.
#include "kernels/isa/attention/scores.h"

namespace hone::kernels::HONE_ISA {
namespace {

struct SoftcapScore {
  float cap, inverse;

  explicit SoftcapScore(const ScoreRule& rule) : cap(rule.number), inverse(1 / rule.number) {}

  Vec value(Vec score, Vec) const {
    // tanh x = 1 - 2 / (e^2x + 1), which is 1 to the last bit from x = 10 on.
    const Vec most = broadcast(10.f), x = score * inverse, bounded = select(x > most, most, x);
    return cap - 2.f * cap / (exp2<5>(bounded * 2.88539008177792681f) + 1.f);  // 2 / ln 2
  }
  Vec slope(Vec value) const {
    const Vec t = value * inverse;
    return 1.f - t * t;
  }
};

}  // namespace

template <>
void change_kind<score_named("softcap")>(const ScoreRule& rule, const ScoreTile& t, float* slopes) {
  change(SoftcapScore(rule), t, slopes);
}

}  // namespace hone::kernels::HONE_ISA
