#include "report/choices.h"

#include <algorithm>

#include "base/error.h"

namespace hone {
namespace {

// Calls f(begin, choice) with the place of each question's first answer.
template <class F>
void each_choice(size_t answers, std::span<const Choice> choices, F&& f) {
  size_t begin = 0;
  for (const Choice& choice : choices) {
    if (choice.answers > answers - begin || choice.right >= choice.answers)
      throw internal_error("a question has {} answers where {} are left", choice.answers, answers - begin);
    f(begin, choice);
    begin += choice.answers;
  }
  if (begin != answers) throw internal_error("{} answers of no question", answers - begin);
}

// Whether the loss of the right answer is below that of every other one.
template <class F>
bool is_least(std::span<const WindowScore> answers, size_t right, F&& loss) {
  for (size_t i = 0; i < answers.size(); ++i)
    if (i != right && !(loss(answers[right]) < loss(answers[i]))) return false;
  return true;
}

}  // namespace

Scores scores_of_choices(const Scores& answers, std::span<const Choice> choices) {
  Scores scores;
  each_choice(answers.windows().size(), choices, [&](size_t begin, const Choice& choice) {
    const auto windows = answers.windows().subspan(begin, choice.answers);
    WindowScore score = windows[choice.right];
    score.trials = 1;
    score.correct = is_least(windows, choice.right, [](const WindowScore& w) { return w.loss; });
    score.correct_by_bytes =
        is_least(windows, choice.right, [](const WindowScore& w) { return w.loss / static_cast<double>(w.bytes); });
    scores.add(score);
  });
  return scores;
}

std::vector<WindowDivergence> of_right_answers(std::span<const WindowDivergence> answers,
                                               std::span<const Choice> choices) {
  std::vector<WindowDivergence> result;
  each_choice(answers.size(), choices,
              [&](size_t begin, const Choice& choice) { result.push_back(answers[begin + choice.right]); });
  return result;
}

}  // namespace hone
