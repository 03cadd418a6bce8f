// Questions of several answers, of which one is right: scored by which answer the model finds most probable.
#pragma once

#include <span>
#include <vector>

#include "report/scores.h"

namespace hone {

struct Choice {
  size_t answers;  // that the question has, at least two
  size_t right;    // which of them, from 0
};

// `answers` has the score of each answer's window, question after question; the result has a window for each question:
// loss, tokens and bytes of the right answer, and whether its log probability is larger than that of every other
// answer: as a sum (`correct`) and divided by the answer's bytes (`correct_by_bytes`). A tie is wrong, and so is NaN.
Scores scores_of_choices(const Scores& answers, std::span<const Choice> choices);

// Those of the right answers' windows.
std::vector<WindowDivergence> of_right_answers(std::span<const WindowDivergence> answers,
                                               std::span<const Choice> choices);

}  // namespace hone
