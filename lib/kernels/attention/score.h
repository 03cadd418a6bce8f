// What becomes of a score, a query's product with a key times the scale, before the softmax.
#pragma once

namespace hone::kernels {

// Caps of scores and logits: what a model with a smaller one predicts is hardly more than chance, and f32 has no digits
// left for a larger one.
constexpr float least_softcap = 0.01f, most_softcap = 1e6f;

// A new kind is a name and a row here, a file in isa/attention/scores/ and its line in isa/attention/scores.h.
enum class ScoreKind {
  plain,    // stays
  softcap,  // C tanh(score / C) (Gemma 2, arXiv 2408.00118, section 2)
};

struct ScoreKindInfo {
  ScoreKind kind;
  const char* form;   // how a layer's blueprint spells it, with its number
  float least, most;  // of that
};
inline constexpr ScoreKindInfo score_kinds[] = {
    {ScoreKind::softcap, "softcap:CAP", least_softcap, most_softcap},
};

struct ScoreRule {
  ScoreKind kind = ScoreKind::plain;
  float number = 0;

  bool operator==(const ScoreRule&) const = default;
};

}  // namespace hone::kernels
