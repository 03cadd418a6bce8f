// A baseline that is scored once for several models: its scores, and what the divergence from it needs.
#pragma once

#include "measure/evaluate.h"
#include "measure/kept_rows.h"

namespace hone {

// How many tokens evaluate() scores: the rows that a baseline keeps.
int64_t scored_tokens(const Corpus& text, const EvaluateSettings& settings);

// As evaluate(), with baseline_attention and baseline_routing. Writes the hidden states of all scored tokens to `kept`,
// which has as many columns as the model is wide, and settings.type.
Scores score_baseline(const Transformer& baseline, const Corpus& text, const EvaluateSettings& settings,
                      KeptRows& kept);

// What evaluate_pair() returns, to the last bit, with the same text and settings. Of the baseline only the head is run.
PairedScores evaluate_against(const Transformer& model, const Transformer& baseline, const Scores& scores,
                              const KeptRows& kept, const Corpus& text, const EvaluateSettings& settings);

}  // namespace hone
