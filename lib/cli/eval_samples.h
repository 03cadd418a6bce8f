// A line for each question that eval scored.
#pragma once

#include <span>
#include <string>

#include "dataset/questions.h"
#include "report/choices.h"

namespace hone::cli {

std::vector<Choice> choices_of(const Questions& questions);  // of questions with several answers

// JSON lines, a question each: model, question (its number, from 1), id, prompt, answers (text, log_probability,
// tokens, bytes), label, right, and right_by_bytes where there are several answers. `answers` has the score of each
// answer in the order of the windows. A log probability that is not finite is null.
std::string sample_lines(const std::string& model, const Questions& questions, std::span<const WindowScore> answers);

}  // namespace hone::cli
