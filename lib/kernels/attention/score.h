// What becomes of a score, a query's product with a key times the scale, before the softmax.
#pragma once

namespace hone::kernels {

// A new kind is a name here, a file in isa/attention/scores/ and its line in isa/attention/scores.h; how a layer's
// blueprint spells it is a row of nn/attention/score.cpp.
enum class ScoreKind {
  plain,    // stays
  softcap,  // C tanh(score / C) (Gemma 2, arXiv 2408.00118, section 2)
};

struct ScoreRule {
  ScoreKind kind = ScoreKind::plain;
  float number = 0;  // softcap: C, above 0

  bool operator==(const ScoreRule&) const = default;
};

}  // namespace hone::kernels
