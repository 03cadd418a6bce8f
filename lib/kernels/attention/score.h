// What becomes of a score, a query's product with a key times the scale, before the softmax.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/find_row.h"

namespace hone::kernels {

// Caps of scores and logits: what a model with a smaller one predicts is hardly more than chance, and f32 has no digits
// left for a larger one.
constexpr float least_softcap = 0.01f, most_softcap = 1e6f;

// A new kind is a row here and a file in isa/attention/scores/; a row without a file does not link.
struct ScoreKindInfo {
  std::string_view form;  // how a layer's blueprint spells it: "NAME:NUMBER", or "NAME" of one without a number
  float least, most;      // of that
  std::string_view what;  // for people
  bool by_head = false;   // heads differ in it by their place among the layer's, so that none can be taken out alone

  constexpr std::string_view name() const { return first_word(form); }
  constexpr bool has_number() const { return name() != form; }
};
inline constexpr ScoreKindInfo score_kinds[] = {
    // Gemma 2, arXiv 2408.00118, section 2.
    {"softcap:CAP", least_softcap, most_softcap, "between -CAP and CAP: CAP tanh(score / CAP)"},
    // Press et al., arXiv 2108.12409: in place of positions that embeddings or rotations tell.
    {"alibi", 0, 0, "less by the head's slope for each token between query and key", true},
};
inline constexpr size_t score_kind_count = std::size(score_kinds);

// 1 + an index into the table; 0: the score stays as it is.
enum class ScoreKind : uint8_t { plain = 0 };

constexpr const ScoreKindInfo& info_of(ScoreKind kind) {
  return score_kinds[static_cast<size_t>(kind) - 1];
}
consteval ScoreKind score_named(std::string_view name) {
  return form_named<ScoreKind>(score_kinds, name, 1);
}

struct ScoreRule {
  ScoreKind kind = ScoreKind::plain;
  float number = 0;
  // Of a kind by head: query head h of a call is head first_head + h of the layer's `heads`. A rank has some of them.
  int64_t first_head = 0, heads = 0;

  bool operator==(const ScoreRule&) const = default;
};

}  // namespace hone::kernels
