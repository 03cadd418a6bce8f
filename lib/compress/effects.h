// What replacing single weights does to a model's predictions, for many weights: a block at a time instead of a pass of
// the model for each.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "compress/reference.h"
#include "compress/targets.h"

namespace hone {

// The text that effects are measured on: of some_windows(text, divergence_windows) as many as have 512 tokens, and at
// least 4.
CalibrationText effect_windows(const CalibrationText& text);

struct Replacement {
  WeightSlot slot;  // of the model
  std::shared_ptr<Weight> by;
};

// For each replacement the divergence of the predictions, KL(model as it is || with this weight replaced) in nats a
// token, in f32. Of a weight outside the blocks it is measured. Those of a block are replaced together, and what that
// comes to behind the rest of the model is shared out by what each alone does to what leaves the block: the sum over
// tokens of the squared change over the squared size, since a norm comes next. Nothing where no bit changes, as of an
// expert that no token of the text is sent to. Throws Error(input), naming the weight, where what it does is no number;
// the model is left as it was in any case.
// For L blocks with N weights that is 2 + (L + 1) / 2 + N / L passes of the text, where each alone would take N, and
// takes the streams before and behind a block in memory.
std::vector<std::optional<double>> replacement_effects(
    Transformer& model, const CalibrationText& text, std::span<const Replacement> replacements,
    const std::function<void(int64_t done, int64_t all)>& progress = {});

}  // namespace hone
